//! A scripted MCP server of either era, or both. It is the same behind HTTP and behind pipes.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{META, STATELESS};

pub type Say = mpsc::UnboundedSender<String>;

/// The eras that an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eras {
    Session,
    Stateless,
    Both,
}

impl Eras {
    pub const ALL: [Self; 3] = [Self::Session, Self::Stateless, Self::Both];

    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "stateless",
            Self::Both => "both",
        }
    }

    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|eras| eras.word() == word).expect("an era")
    }
}

/// A session, or a pipe.
pub struct Conversation {
    /// The server's unsolicited messages.
    pub said: broadcast::Sender<String>,
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    subscribed: Mutex<BTreeSet<String>>,
    running: Mutex<HashMap<String, CancellationToken>>,
}

impl Conversation {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            said: broadcast::channel(64).0,
            asked: Mutex::default(),
            subscribed: Mutex::default(),
            running: Mutex::default(),
        })
    }
}

struct Listen {
    id: Value,
    filter: Value,
    say: Say,
}

pub struct Peer {
    pub eras: Eras,
    /// Receives reports of events, mainly of calls that ended without an answer.
    pub report: Box<dyn Fn(String) + Send + Sync>,
    grown: AtomicU64,
    /// True while `poke` declares that it only reads.
    pub pokes_read_only: std::sync::atomic::AtomicBool,
    conversations: Mutex<Vec<Weak<Conversation>>>,
    listens: Mutex<Vec<Listen>>,
    next: AtomicU64,
}

fn is_stateless(message: &Value) -> bool {
    message["params"]["_meta"][format!("{META}protocolVersion")].is_string()
}

/// Reports a call that ended before it was answered.
struct Gone<'a>(&'a Peer, String);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        (self.0.report)(format!("GONE {}", self.1));
    }
}

impl Peer {
    pub fn new(eras: Eras, report: impl Fn(String) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            eras,
            report: Box::new(report),
            grown: AtomicU64::new(0),
            pokes_read_only: false.into(),
            conversations: Mutex::default(),
            listens: Mutex::default(),
            next: AtomicU64::new(1000),
        })
    }

    pub fn begin(&self) -> Arc<Conversation> {
        let conversation = Conversation::new();
        self.conversations.lock().unwrap().push(Arc::downgrade(&conversation));
        conversation
    }

    /// Handles a notification, or the response to a question of the server.
    pub fn told(&self, conversation: &Conversation, message: &Value) {
        if message["method"] == "notifications/cancelled" {
            let id = message["params"]["requestId"].to_string();
            if let Some(running) = conversation.running.lock().unwrap().get(&id) {
                running.cancel();
            }
        } else if message.get("method").is_none() {
            let asked = conversation.asked.lock().unwrap().remove(&message["id"].to_string());
            if let Some(asked) = asked {
                let _ = asked.send(message.clone());
            }
        }
    }

    /// Answers a request. Returns the text of the response, or `None` if it was cancelled. Earlier
    /// messages go to `say`.
    pub async fn serve(&self, conversation: &Conversation, message: &Value, say: &Say) -> Option<String> {
        let id = message["id"].to_string();
        let cancel = CancellationToken::new();
        conversation.running.lock().unwrap().insert(id.clone(), cancel.clone());
        let stateless = is_stateless(message);
        let answer = tokio::select! {
            answer = self.answer(conversation, message, say) => Some(answer),
            () = cancel.cancelled() => None,
            () = say.closed(), if stateless => None,
        };
        conversation.running.lock().unwrap().remove(&id);
        answer
    }

    async fn answer(&self, conversation: &Conversation, message: &Value, say: &Say) -> String {
        let (id, params, stateless) = (&message["id"], &message["params"], is_stateless(message));
        let method = message["method"].as_str().unwrap_or_default();
        let error = |code: i64, why: &str| {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}}).to_string()
        };
        let unspoken = match stateless {
            true => self.eras == Eras::Session,
            false => self.eras == Eras::Stateless,
        };
        if unspoken {
            return error(-32601, "not in this era");
        }
        let capabilities = json!({
            "tools": {"listChanged": true}, "prompts": {"listChanged": true}, "logging": {}, "completions": {},
            "resources": {"listChanged": true, "subscribe": true},
        });
        let result = match method {
            "initialize" => json!({
                "protocolVersion": "2025-11-25", "capabilities": capabilities,
                "serverInfo": {"name": "peer", "version": "1"},
            }),
            "server/discover" => json!({"supportedVersions": [STATELESS], "capabilities": capabilities}),
            "ping" | "logging/setLevel" if !stateless => json!({}),
            "tools/list" => self.tools(params),
            "tools/call" => match self.call(conversation, message, say).await {
                Ok(result) => result,
                Err(text) => return text,
            },
            "prompts/list" => json!({"prompts": [{"name": "greet"}]}),
            "prompts/get" => {
                json!({"messages": [{"role": "user", "content": {"type": "text", "text": params["arguments"]}}]})
            }
            "resources/list" => json!({"resources": [{"uri": "test://one", "name": "one"}]}),
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": "test://each/{id}", "name": "each"}]})
            }
            "resources/read" => match params["uri"].as_str() {
                Some(uri) if uri == "test://one" || uri.starts_with("test://each/") => {
                    json!({"contents": [{"uri": uri, "text": "read"}]})
                }
                _ => return error(if stateless { -32602 } else { -32002 }, "no such resource"),
            },
            "resources/subscribe" | "resources/unsubscribe" if !stateless => {
                let uri = params["uri"].as_str().unwrap_or_default().to_owned();
                let mut subscribed = conversation.subscribed.lock().unwrap();
                if method == "resources/subscribe" {
                    subscribed.insert(uri)
                } else {
                    subscribed.remove(&uri)
                };
                json!({})
            }
            "subscriptions/listen" if stateless => {
                let filter = params["notifications"].clone();
                let about = self.about_subscription(
                    "notifications/subscriptions/acknowledged",
                    id,
                    json!({"notifications": filter}),
                );
                let _ = say.send(about);
                self.listens.lock().unwrap().push(Listen { id: id.clone(), filter, say: say.clone() });
                (self.report)("LISTENS".into());
                let _gone = Gone(self, "listen".into());
                return std::future::pending().await;
            }
            "completion/complete" => {
                json!({"completion": {"values": [params["argument"]["value"], params["ref"]["name"]]}})
            }
            "vendor/exec" => json!({"executed": true}),
            _ => return error(-32601, "no such method"),
        };
        let mut result = result;
        if stateless && result.get("resultType").is_none() {
            result["resultType"] = json!("complete");
        }
        json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
    }

    fn tools(&self, params: &Value) -> Value {
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        if params["cursor"].is_null() {
            return json!({"tools": [tool("echo"), tool("wait")], "nextCursor": "2"});
        }
        let hinted = |name: &str, hint: bool| {
            let mut tool = tool(name);
            tool["annotations"] = json!({"readOnlyHint": hint});
            tool
        };
        let mut tools =
            vec![hinted("peek", true), hinted("poke", self.pokes_read_only.load(Ordering::SeqCst))];
        let mut mirrored = tool("regional");
        mirrored["inputSchema"]["properties"] =
            json!({"region": {"type": "string", "x-mcp-header": "Region"}});
        tools.push(mirrored);
        for name in ["progress", "log", "ask", "touch", "grow", "verbatim"] {
            tools.push(tool(name));
        }
        for number in 0..self.grown.load(Ordering::SeqCst) {
            tools.push(tool(&format!("grown{number}")));
        }
        json!({ "tools": tools })
    }

    /// Runs a tool. `Err` contains the text of a complete response.
    async fn call(&self, conversation: &Conversation, message: &Value, say: &Say) -> Result<Value, String> {
        let (id, params) = (&message["id"], &message["params"]);
        let given = &params["arguments"];
        let stateless = is_stateless(message);
        let note = |method: &str, params: Value| {
            let _ = say.send(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
        };
        let done = |text: String| json!({"content": [{"type": "text", "text": text}]});
        Ok(match params["name"].as_str().unwrap_or_default() {
            "echo" | "peek" | "poke" | "regional" => done(format!("done {given}")),
            "wait" => {
                let _gone = Gone(self, given["tag"].to_string());
                (self.report)(format!("WAITS {}", given["tag"]));
                if !stateless || given["stream"] == true {
                    note(
                        "notifications/progress",
                        json!({"progressToken": params["_meta"]["progressToken"], "progress": 0}),
                    );
                }
                std::future::pending().await
            }
            "progress" => {
                for step in 1..=2 {
                    let token = &params["_meta"]["progressToken"];
                    note(
                        "notifications/progress",
                        json!({"progressToken": token, "progress": step, "message": given["tag"]}),
                    );
                }
                done(format!("done {}", given["tag"]))
            }
            "log" => {
                if !stateless || params["_meta"][format!("{META}logLevel")].is_string() {
                    note("notifications/message", json!({"level": "info", "data": given["tag"]}));
                }
                done("logged".into())
            }
            "ask" if stateless => match params.get("inputResponses") {
                None => json!({
                    "resultType": "input_required", "requestState": "of-the-peer",
                    "inputRequests": {"q": {"method": given["method"], "params": given["params"]}},
                }),
                Some(responses) => done(format!("answered {} {}", responses["q"], params["requestState"])),
            },
            "ask" => {
                let _gone = Gone(self, given["tag"].to_string());
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                let (answer, answered) = oneshot::channel();
                conversation.asked.lock().unwrap().insert(number.to_string(), answer);
                let question = json!({"jsonrpc": "2.0", "id": number, "method": given["method"], "params": given["params"]});
                let _ = say.send(question.to_string());
                (self.report)(format!("ASKS {}", given["tag"]));
                let answer = answered.await.map_err(|_| "never answered".to_owned())?;
                std::mem::forget(_gone);
                if given["then"] == "progress" {
                    note(
                        "notifications/progress",
                        json!({"progressToken": params["_meta"]["progressToken"], "progress": 1}),
                    );
                }
                match answer.get("result") {
                    Some(result) => done(format!("answered {result}")),
                    None => done(format!("refused {}", answer["error"]["code"])),
                }
            }
            "touch" => {
                self.say_to_all("notifications/resources/updated", &json!({"uri": given["uri"]}));
                done("touched".into())
            }
            "grow" => {
                self.grown.fetch_add(1, Ordering::SeqCst);
                self.say_to_all("notifications/tools/list_changed", &json!({}));
                done("grown".into())
            }
            "verbatim" => {
                let result = given["raw"].as_str().unwrap_or_default();
                return Err(format!(r#"{{"jsonrpc":"2.0","id":{id},{result}}}"#));
            }
            name => self.of_a_process(name, given),
        })
    }

    /// Handles the tools that only a separate process offers.
    fn of_a_process(&self, name: &str, given: &Value) -> Value {
        let text = match name {
            "pid" => std::process::id().to_string(),
            "env" => {
                let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                names.sort();
                names.join(" ")
            }
            "grandchild" => {
                #[allow(
                    clippy::zombie_processes,
                    reason = "whether it outlives its parent is what is tested"
                )]
                let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
                child.id().to_string()
            }
            "crash" => std::process::exit(3),
            "mute" => {
                rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null").unwrap()).unwrap();
                "mute".into()
            }
            "complain" => {
                let text = given["text"].as_str().unwrap_or_default();
                std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).unwrap();
                "complained".into()
            }
            _ => return json!({"content": [{"type": "text", "text": "no such tool"}], "isError": true}),
        };
        json!({"content": [{"type": "text", "text": text}]})
    }

    fn about_subscription(&self, method: &str, id: &Value, mut params: Value) -> String {
        params["_meta"] = json!({ (format!("{META}subscriptionId")): id });
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    }

    /// Sends an unsolicited message to everyone who subscribed to it.
    pub fn say_to_all(&self, method: &str, params: &Value) {
        for conversation in self.conversations.lock().unwrap().iter().filter_map(Weak::upgrade) {
            let wanted = match params["uri"].as_str() {
                Some(uri) => conversation.subscribed.lock().unwrap().contains(uri),
                None => true,
            };
            if wanted && self.eras != Eras::Stateless {
                let _ = conversation
                    .said
                    .send(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
            }
        }
        for listen in self.listens.lock().unwrap().iter() {
            let wanted = match params["uri"].as_str() {
                Some(uri) => listen.filter["resourceSubscriptions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one == uri)),
                None => listen.filter["toolsListChanged"] == true,
            };
            if wanted {
                let _ = listen.say.send(self.about_subscription(method, &listen.id, params.clone()));
            }
        }
    }
}
