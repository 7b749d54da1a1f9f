//! The program as its users have it: real processes, on port 0, that end with the test.
#![allow(dead_code, missing_docs, unreachable_pub)]

mod api;
mod server;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

pub use api::{Api, Made};
pub use server::Server;
use tempfile::TempDir;

pub const EMAIL: &str = "ada@example.org";
pub const PASSWORD: &str = "correct horse battery";
/// Long enough that a test which waits for something that never comes fails, and does not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own, in which the program runs; the data is in `data` below it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    /// With an account.
    pub fn with_account() -> Self {
        let place = Self::new();
        place.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// The program on this place's data.
    pub fn run(&self, args: &[&str]) -> Run {
        self.bare(args).env("TRUSTRELAY_DATA_DIR", &self.data().display().to_string())
    }

    /// The program, told nothing.
    pub fn bare(&self, args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trustrelay"));
        command.args(args).current_dir(self.0.path()).env_clear();
        Run { command, stdin: String::new() }
    }

    /// A running server.
    pub fn serve(&self, args: &[&str]) -> Server {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--log", "info"], args].concat();
        Server::start(self.run(&args))
    }

    /// A new token of the account, by the command.
    pub fn token(&self, scope: &str) -> Made {
        let token = self
            .run(&["token", "create", "--user", EMAIL, "--name", "by-command", "--scope", scope])
            .done()
            .good();
        let list = self.run(&["token", "list", "--user", EMAIL, "--json"]).done().good();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let id = list[0]["pat_id"].as_str().expect("the newest first").to_owned();
        Made { id, token: token.trim_end().to_owned() }
    }
}

/// The program, about to run.
pub struct Run {
    command: Command,
    stdin: String,
}

impl Run {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.to_owned();
        self
    }

    fn spawn(mut self) -> Child {
        let pipes = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A program that needs no input may have ended already.
        let _ = stdin.write_all(self.stdin.as_bytes());
        child
    }

    /// Runs it to its end.
    pub fn done(self) -> Done {
        let what = format!("{:?}", self.command);
        let mut child = Running(self.spawn());
        let (out, err) = (read(child.0.stdout.take()), read(child.0.stderr.take()));
        let out = out.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not end: {what}"));
        let err = err.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not end: {what}"));
        let code = child.0.wait().expect("ends").code();
        Done { code, out, err }
    }

    /// Runs it with a standard output that nobody reads.
    pub fn done_unheard(self) -> Done {
        let mut child = Running(self.spawn());
        drop(child.0.stdout.take());
        let err = read(child.0.stderr.take()).recv_timeout(PATIENCE).expect("the program ends");
        let code = child.0.wait().expect("ends").code();
        Done { code, out: String::new(), err }
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let mut pipe = pipe.expect("piped");
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("text");
        let _ = sender.send(text);
    });
    receiver
}

/// A process that ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// It did as asked; what it printed.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// It refused: exit 1 and one line on standard error; that line.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        assert_eq!(self.err.matches('\n').count(), 1, "one line: {self:?}");
        let line = self.err.strip_prefix("trustrelay: ").expect("who speaks").trim_end();
        line.to_owned()
    }

    /// It was called wrongly: exit 2; what it said.
    #[track_caller]
    pub fn misused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(2), ""), "{self:?}");
        assert!(self.err.starts_with("error: "), "{self:?}");
        self.err
    }
}
