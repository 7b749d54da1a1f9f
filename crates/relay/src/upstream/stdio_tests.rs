use proptest::prelude::*;

use super::*;

/// Number of calls that share the pipe.
const CALLS: u64 = 4;

/// A line from a child, by the call that it concerns.
#[derive(Debug, Clone)]
enum Line {
    Response(u64),
    Error(u64),
    Progress(u64),
    /// An id or a token that is similar to one of the relay's.
    Strange(&'static str),
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Response(key) => format!(r#"{{"jsonrpc":"2.0","id":{key},"result":{{"of":{key}}}}}"#),
            Self::Error(key) => {
                format!(r#"{{"jsonrpc":"2.0","id":{key},"error":{{"code":1,"message":"{key}"}}}}"#)
            }
            Self::Progress(key) => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{key},"progress":{key}}}}}"#
            ),
            Self::Strange(text) => (*text).to_owned(),
        }
    }
}

fn line() -> impl Strategy<Value = Line> {
    // Some keys belong to no call.
    let key = 0..CALLS + 3;
    prop_oneof![
        key.clone().prop_map(Line::Response),
        key.clone().prop_map(Line::Error),
        key.prop_map(Line::Progress),
        prop::sample::select(vec![
            "",
            "nonsense",
            r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":18446744073709551617,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"1"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        ])
        .prop_map(Line::Strange),
    ]
}

proptest! {
    #[test]
    fn each_call_hears_what_is_its_own_under_its_own_id_until_it_is_answered(
        lines in prop::collection::vec(line(), 0..30),
    ) {
        let shared = Shared {
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            unsolicited: broadcast::channel(UNSOLICITED).0,
            lines: mpsc::channel(1).0,
            limit: usize::MAX,
        };
        let mut heard: BTreeMap<u64, mpsc::UnboundedReceiver<Event>> = BTreeMap::new();
        let mut expected: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for key in 1..=CALLS {
            let (events, receiver) = mpsc::unbounded_channel();
            let route = Route {
                events,
                waiting: Arc::default(),
                // All clients choose the same id.
                id: r#""mine""#.to_owned(),
                progress_token: Some(format!("\"token-{key}\"")),
                wants_log: false,
                listens: false,
                stateless: true,
                asker: Some(key),
                failed: Arc::default(),
            };
            shared.calls.lock().insert(key, route);
            heard.insert(key, receiver);
            expected.insert(key, Vec::new());
        }
        let mut answered = std::collections::BTreeSet::new();
        for line in lines {
            shared.arrived(line.text());
            let (key, ends) = match &line {
                Line::Response(key) | Line::Error(key) => (*key, true),
                Line::Progress(key) => (*key, false),
                Line::Strange(_) => continue,
            };
            if let Some(theirs) = expected.get_mut(&key).filter(|_| !answered.contains(&key)) {
                let text = line.text().replace(&format!(r#""id":{key}"#), r#""id":"mine""#);
                let own = format!("\"progressToken\":\"token-{key}\"");
                theirs.push(text.replace(&format!("\"progressToken\":{key}"), &own));
                if ends {
                    answered.insert(key);
                }
            }
        }
        for (key, mut receiver) in heard {
            let mut came = Vec::new();
            while let Ok(event) = receiver.try_recv() {
                came.push(String::from_utf8(event.frame.to_vec()).unwrap());
            }
            prop_assert_eq!(&came, &expected[&key], "call {}", key);
        }
    }
}
