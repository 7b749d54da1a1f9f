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
                a.skip href="#main" { "Skip to the content" }
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

/// What went wrong with a form, in front of it.
pub(crate) fn problem(message: Option<&str>) -> Markup {
    html! { @if let Some(message) = message { p.problem role="alert" #problem { (sentence(message)) } } }
}

/// The fields of the API, as the pages' forms call them.
const FIELDS: [(&str, &str); 15] = [
    // The message names the webhook's URL itself.
    ("`url`: ", ""),
    ("`pat_name`", "the name"),
    ("`pat_scope`", "the scopes"),
    ("`expires_in_days`", "the number of days"),
    ("`max_days`", "the longest life"),
    ("`default_days`", "the usual life"),
    ("`allowed_scopes`", "the scopes"),
    ("`allowed_networks`", "the networks"),
    ("`unused_days`", "the number of unused days"),
    ("`email`", "the e-mail address"),
    ("`password`", "the password"),
    ("`state`", "the state"),
    ("`expires_before`", "the day before which they expire"),
    ("`unused_since`", "the day since which they are unused"),
    ("`expected`", "the number of tokens"),
];

/// An error's message as a sentence for a person.
pub(crate) fn sentence(message: &str) -> String {
    let message = FIELDS.iter().fold(message.to_owned(), |text, (field, called)| text.replace(field, called));
    let mut letters = message.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if message.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_sentence_in_the_words_of_the_form() {
        for (message, says) in [
            ("`pat_name` is empty; name the token", "The name is empty; name the token."),
            ("the current password is wrong", "The current password is wrong."),
            ("`url`: the webhook's URL is empty", "The webhook's URL is empty."),
            ("Already one.", "Already one."),
            ("", "."),
        ] {
            assert_eq!(sentence(message), says);
        }
    }
}
