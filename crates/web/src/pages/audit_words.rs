//! An entry of the audit log in plain words.

use maud::{Markup, html};
use trustrelay_authority::{Actor, ActorKind, AuditEntry};
use uuid::Uuid;

/// Who it was. `viewer` is who looks.
pub(super) fn who(actor: &Actor, viewer: Uuid) -> Markup {
    let person = || match (&actor.email, actor.user_id) {
        (_, Some(id)) if id == viewer => "You".to_owned(),
        (Some(email), _) => email.clone(),
        (None, Some(id)) => id.to_string(),
        (None, None) => "Unknown account".to_owned(),
    };
    match actor.kind {
        ActorKind::User => html! { (person()) },
        ActorKind::Token => html! {
            (person()) " "
            span.faint { "with the token " (actor.pat_name.as_deref().unwrap_or("(no name)")) }
        },
        ActorKind::Operator => html! { "The operator " span.faint { "by a command on the server" } },
        ActorKind::System => html! { "The server" },
        ActorKind::Anonymous => html! { span.faint { "Someone who is not signed in" } },
    }
}

/// What was done, as it goes on after who it was.
pub(super) fn what(entry: &AuditEntry) -> String {
    let detail = |name: &str| entry.details.get(name).map_or("", String::as_str);
    let name = match detail("name") {
        "" => {
            entry.actor.pat_name.as_deref().filter(|_| entry.pat_id == entry.actor.pat_id).unwrap_or_default()
        }
        name => name,
    };
    let mut said = match &*entry.action {
        "token.created" => format!("created the token {name}"),
        "token.revoked" => format!("revoked the token {name}"),
        "token.rotated" => format!("rotated the token {name}"),
        "token.secret_retired" => format!("retired an old secret of the token {name}"),
        "token.leaked" => format!("revoked the token {name}, which had been leaked"),
        "token.unused" => format!("revoked the token {name}, which was not used"),
        "account.added" => format!("added the account {}", detail("email")),
        "account.invited" => format!("invited {}", detail("email")),
        "account.disabled" => "disabled the account".to_owned(),
        "account.enabled" => "enabled the account again".to_owned(),
        "account.password_changed" => "changed the password".to_owned(),
        "account.admin_granted" => "made the account an administrator".to_owned(),
        "account.admin_withdrawn" => "removed the administrator role".to_owned(),
        "account.upstreams_changed" => "changed which servers the account can use".to_owned(),
        "session.began" => "signed in".to_owned(),
        "session.ended" if detail("sessions").is_empty() => "signed out".to_owned(),
        "session.ended" => "signed out everywhere else".to_owned(),
        "policy.changed" => "changed the policy".to_owned(),
        "secret.activated" => format!("activated the server secret {}", detail("key")),
        "webhook.added" => "added a webhook".to_owned(),
        "webhook.removed" => "removed a webhook".to_owned(),
        "webhook.tested" => "sent a test notification".to_owned(),
        "audit.cut" => format!("deleted the audit log up to entry {}", detail("through")),
        "refused.login" => format!("failed to sign in: {}", login(detail("reason"))),
        "refused.token" => format!("was refused: the token {name} is not valid ({})", detail("reason")),
        "refused.scope" => format!("was refused: the token does not have the scope {}", detail("scope")),
        "refused.admin" => "was refused: only administrators can do this".to_owned(),
        "refused.network" => "was refused: the token cannot be used from this address".to_owned(),
        "refused.rate" => "was refused: too many requests".to_owned(),
        "refused.retired_secret" => format!("was refused: this secret of the token {name} was replaced"),
        "refused.cross_origin" => "was refused: the request came from another site".to_owned(),
        "refused.leak_signature" => "was refused: the signature of a leak report was wrong".to_owned(),
        other => other.to_owned(),
    };
    if let Some(count) = entry.details.get("count") {
        said.push_str(&format!(", {count} times"));
    }
    said
}

fn login(reason: &str) -> &str {
    match reason {
        "wrong" => "wrong password or unknown account",
        "wrong current password" => "the current password was wrong",
        "throttled" => "too many attempts",
        "account disabled" => "the account is disabled",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn an_entry_reads_as_a_sentence() {
        let ada = Uuid::from_u128(1);
        let mut actor = Actor::anonymous(None);
        (actor.kind, actor.user_id, actor.email) =
            (ActorKind::User, Some(ada), Some("ada@example.org".into()));
        let entry = AuditEntry::new(Timestamp::UNIX_EPOCH, actor.clone(), "token.revoked")
            .with("name", "ci-pipeline");
        assert_eq!(what(&entry), "revoked the token ci-pipeline");
        assert_eq!(who(&actor, ada).into_string(), "You");
        assert_eq!(who(&actor, Uuid::nil()).into_string(), "ada@example.org");

        (actor.kind, actor.pat_id, actor.pat_name) =
            (ActorKind::Token, Some(Uuid::nil()), Some("<ci>".into()));
        let refused =
            AuditEntry::new(Timestamp::UNIX_EPOCH, actor.clone(), "refused.token").of_pat(Uuid::nil());
        let refused = refused.with("reason", "revoked").with("count", 12);
        assert_eq!(what(&refused), "was refused: the token <ci> is not valid (revoked), 12 times");
        assert!(who(&actor, ada).into_string().contains("&lt;ci&gt;"), "a name is never markup");
        let other = AuditEntry::new(Timestamp::UNIX_EPOCH, Actor::SYSTEM, "new.kind");
        assert_eq!(what(&other), "new.kind", "what has no words yet is shown by its name");
    }
}
