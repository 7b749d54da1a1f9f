//! A running server.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, mpsc};

use rustix::process::{Pid, Signal, kill_process};

use super::{Api, PATIENCE, Run, Running};

/// A server that ends with the test.
pub struct Server {
    running: Running,
    pub base: String,
    client: reqwest::Client,
    out: Lines,
    err: Lines,
    ended: mpsc::Receiver<()>,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(run: Run) -> Self {
        let mut running = Running(run.spawn());
        let (out, err) = (Lines::default(), Lines::default());
        let (listens, listening) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let end = |ends: &mpsc::Sender<()>| {
            let ends = ends.clone();
            move || {
                let _ = ends.send(());
            }
        };
        collect(running.0.stderr.take().expect("piped"), err.clone(), |_| {}, end(&ends));
        let line = move |line: &str| {
            if let Some(base) = line.strip_prefix("listening on ") {
                // Whoever waited for it may have given up.
                let _ = listens.send(base.to_owned());
            }
        };
        collect(running.0.stdout.take().expect("piped"), out.clone(), line, end(&ends));
        let base = listening
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the server does not listen: {:?}", err.lock().expect("whole")));
        let redirect = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().redirect(redirect).timeout(PATIENCE).build().expect("builds");
        Self { running, base, client, out, err, ended }
    }

    /// Its REST interface, for whoever holds this token; for nobody, if it is empty.
    pub fn api(&self, token: &str) -> Api {
        Api::new(self.client.clone(), &self.base, token)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.running.0)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Waits for its end; its exit code, unless a signal ended it, and all that it wrote.
    pub fn end(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        for _both_outputs in 0..2 {
            self.ended.recv_timeout(PATIENCE).expect("the server ends");
        }
        let code = self.running.0.wait().expect("ends").code();
        let lines = |lines: &Lines| lines.lock().expect("whole").clone();
        (code, lines(&self.out), lines(&self.err))
    }

    /// What it has printed so far.
    pub fn out(&self) -> Vec<String> {
        self.out.lock().expect("whole").clone()
    }

    /// What it has logged so far.
    pub fn err(&self) -> Vec<String> {
        self.err.lock().expect("whole").clone()
    }
}

fn collect(
    pipe: impl Read + Send + 'static,
    lines: Lines,
    mut each: impl FnMut(&str) + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let line = line.expect("text");
            lines.lock().expect("whole").push(line.clone());
            each(&line);
        }
        end();
    });
}
