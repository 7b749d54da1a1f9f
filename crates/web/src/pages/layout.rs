//! What all pages share: the head, the bar on top, the way between settings.

use maud::{DOCTYPE, Markup, html};
use trustrelay_authority::By;

/// Changes with every release, so that a kept style sheet is not an old one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · TrustRelay" }
                link rel="icon" href={ "/assets/mark.svg?" (VERSION) } type="image/svg+xml";
                link rel="stylesheet" href={ "/assets/app.css?" (VERSION) };
                script src={ "/assets/app.js?" (VERSION) } defer {}
            }
            body {
                a.skip href="#main" { "Skip to main content" }
                (body)
            }
        }
    }
}

fn brand() -> Markup {
    html! {
        a.brand href="/" aria-label="TrustRelay" { img src={ "/assets/mark.svg?" (VERSION) } alt="" width="28" height="28"; span { "TrustRelay" } }
    }
}

/// A page of its own: sign in, set up, an error.
pub(crate) fn plain(title: &str, content: Markup) -> Markup {
    document(
        title,
        &html! {
            div.alone {
                header { (brand()) }
                main #main.card { (content) }
            }
        },
    )
}

/// Which of the settings a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tab {
    Profile,
    Developer,
    Notices,
    Audit,
    People,
    Tokens,
    AllNotices,
    Policy,
    AllAudit,
}

/// A page of the user's settings, or of the administration.
pub(crate) fn settings(title: &str, by: &By, tab: Tab, content: Markup) -> Markup {
    let entry = |at: Tab, path: &str, text: &str| {
        html! { a href=(path) aria-current=[(at == tab).then_some("page")] { (text) } }
    };
    document(
        title,
        &html! {
            header.top {
                (brand())
                form method="post" action="/logout" {
                    span.who { (by.email) }
                    button.quiet type="submit" { "Sign out" }
                }
            }
            div.settings {
                div.ways {
                    nav aria-label="Settings" {
                        p { "User settings" }
                        (entry(Tab::Profile, "/settings/profile", "Profile"))
                        (entry(Tab::Developer, "/settings/developer", "Developer"))
                        (entry(Tab::Notices, "/settings/notices", "Notices"))
                        (entry(Tab::Audit, "/settings/audit", "Audit log"))
                    }
                    @if by.is_admin() {
                        nav aria-label="Administration" {
                            p { "Administration" }
                            (entry(Tab::People, "/admin/people", "People"))
                            (entry(Tab::Tokens, "/admin/tokens", "Tokens"))
                            (entry(Tab::AllNotices, "/admin/notices", "Notices"))
                            (entry(Tab::Policy, "/admin/policy", "Policy"))
                            (entry(Tab::AllAudit, "/admin/audit", "Audit log"))
                        }
                    }
                }
                main #main { (content) }
            }
        },
    )
}

/// Why a form was refused.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    message: &'a str,
    /// The field that is wrong, as the REST API names it.
    field: Option<&'static str>,
}

impl<'a> Problem<'a> {
    pub(crate) fn with_field(message: &'a str, field: Option<&'static str>) -> Self {
        Self { message, field }
    }
}

impl<'a> From<&'a str> for Problem<'a> {
    fn from(message: &'a str) -> Self {
        Self { message, field: None }
    }
}

/// The problem above a form, unless one of its `fields` shows it.
pub(crate) fn problem<'a>(problem: Option<impl Into<Problem<'a>>>, fields: &[&str]) -> Markup {
    let problem = problem.map(Into::into);
    let above = problem.filter(|problem| !problem.field.is_some_and(|field| fields.contains(&field)));
    html! { @if let Some(Problem { message, .. }) = above { p.problem role="alert" #problem { (sentence(message)) } } }
}

/// The problem beside the field that is wrong.
pub(crate) fn field_problem(problem: Option<Problem<'_>>, field: &str) -> Markup {
    let here = problem.filter(|problem| problem.field == Some(field));
    html! { @if let Some(Problem { message, .. }) = here { span.problem role="alert" #problem { (sentence(message)) } } }
}

/// `aria-invalid` of a field.
pub(crate) fn invalid(problem: Option<Problem<'_>>, field: &str) -> Option<&'static str> {
    problem.filter(|problem| problem.field == Some(field)).map(|_| "true")
}

/// The fields of the API by the labels that the pages show.
const LABELS: [(&str, &str); 23] = [
    // The message names the webhook's URL itself.
    ("`url`: ", ""),
    ("`pat_name`", "Name"),
    ("`pat_scope`", "Permissions"),
    ("`expires_in_days`", "Expires after"),
    ("`max_days`", "Maximum lifetime (days)"),
    ("`default_days`", "Default lifetime (days)"),
    ("`allowed_scopes`", "Permissions of new tokens"),
    ("`allowed_networks`", "Allowed IP ranges"),
    ("`requests_per_minute`", "Requests per minute"),
    ("`unused_days`", "Revoke after days without use"),
    ("`expires_if_unused_days`", "Revoke after days without use"),
    ("`email`", "Email"),
    ("`password`", "Password"),
    ("`state`", "State"),
    ("`hint`", "Secret ends with"),
    ("`expires_before`", "Expires before"),
    ("`unused_since`", "Not used since"),
    ("`expected`", "Number of tokens"),
    ("`user`", "Account"),
    ("`actor`", "Done by"),
    ("`from`", "From"),
    ("`to`", "To"),
    ("`token`", "Token"),
];

/// An error's message as sentences for a person.
pub(crate) fn sentence(message: &str) -> String {
    let message = LABELS.iter().fold(message.to_owned(), |text, (field, label)| text.replace(field, label));
    let sentences: Vec<String> = message.split("; ").map(capitalized).collect();
    let end = if message.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{end}", sentences.join(". "))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_sentence_in_the_words_of_the_form() {
        for (message, says) in [
            ("`pat_name` is empty; name the token", "Name is empty. Name the token."),
            ("too many attempts; try again in 15 minutes", "Too many attempts. Try again in 15 minutes."),
            ("the current password is wrong", "The current password is wrong."),
            ("`url`: the webhook's URL is empty", "The webhook's URL is empty."),
            ("Already one.", "Already one."),
            ("", "."),
        ] {
            assert_eq!(sentence(message), says);
        }
    }

    #[test]
    fn a_problem_is_shown_beside_its_field_or_above_the_form() {
        let wrong = Problem { message: "`email` is empty", field: Some("email") };
        let above = |fields: &[&str]| problem(Some(wrong), fields).into_string();
        assert_eq!(above(&["email"]), "");
        assert!(above(&["password"]).contains("<p class=\"problem\""));
        assert!(field_problem(Some(wrong), "email").into_string().contains(">Email is empty.</span>"));
        assert_eq!(field_problem(Some(wrong), "password").into_string(), "");
        assert_eq!((invalid(Some(wrong), "email"), invalid(Some(wrong), "password")), (Some("true"), None));
    }
}
