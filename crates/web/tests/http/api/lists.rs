//! Every list: what it is asked for and does not know is refused, so that nobody takes another
//! answer for it.

use http::StatusCode;
use serde_json::Value;

use crate::support::World;

/// Each with the most that a page of it has; 0, if it has no pages.
const LISTS: [(&str, u64); 10] = [
    ("/api/user/personal-access-tokens", 0),
    ("/api/user/audit", 200),
    ("/api/user/notices", 100),
    ("/api/user/webhooks", 0),
    ("/api/admin/users", 200),
    ("/api/admin/personal-access-tokens", 100),
    ("/api/admin/invites", 0),
    ("/api/admin/audit", 200),
    ("/api/admin/notices", 100),
    ("/api/admin/webhooks", 0),
];

#[tokio::test]
async fn a_limit_a_cursor_or_a_parameter_that_is_wrong_is_refused_and_named() {
    let world = World::new().await;
    let session = world.browser().await;
    for (list, most) in LISTS {
        let ask = async |query: String| {
            let answer = world.get(&format!("{list}?{query}")).session(&session).send().await;
            assert!(answer.json().is_object(), "{list}?{query}");
            answer
        };
        let whole = ask(String::new()).await;
        assert_eq!(whole.status, StatusCode::OK, "{list}: {whole}");
        let mut wrong = vec![("limits=3".to_owned(), "limits"), ("onwer=eve".to_owned(), "onwer")];
        if most == 0 {
            wrong.extend([("limit=3".to_owned(), "limit"), ("after=x".to_owned(), "after")]);
        } else {
            for limit in ["0", "-1", "x", "1.5", "18446744073709551616"] {
                wrong.push((format!("limit={limit}"), "limit"));
            }
            wrong.extend([(format!("limit={}", most + 1), "limit"), ("after=x!".to_owned(), "after")]);
            for limit in [1, most] {
                let page = ask(format!("limit={limit}")).await;
                assert_eq!(page.status, StatusCode::OK, "{list} {limit}: {page}");
            }
        }
        for (query, named) in wrong {
            let refused = ask(query.clone()).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{list}?{query}: {refused}");
            let message = refused.json()["error"]["message"].clone();
            let Value::String(message) = message else { panic!("{list}?{query}: {refused}") };
            assert!(message.contains(named), "{list}?{query}: {message}");
        }
    }
}
