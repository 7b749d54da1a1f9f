//! What sampled stacks were busy with: each sample counts for the innermost frame that says it.

use std::collections::HashMap;

/// Something that processor time goes to.
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Parts of the names of its functions.
    frames: &'static [&'static str],
}

const fn place(name: &'static str, frames: &'static [&'static str]) -> Place {
    Place { name, frames }
}

/// The last is for what no other has.
pub(super) const WHERE: [Place; 10] = [
    place("the kernel: sockets, files, waking", &["entry_SYSCALL", "asm_sysvec", "asm_exc", "ret_from_fork"]),
    place("the token: parse and keyed hash", &["trustrelay_token", "sha2::", "hmac::", "crc32fast"]),
    place("the verification besides", &["trustrelay_authority", "trustrelay_guard"]),
    place("the log and metrics", &["tracing", "trustrelay::log", "metrics"]),
    place("JSON", &["serde_json", "serde_core", "itoa::"]),
    place("the relay", &["trustrelay_relay"]),
    place("the router and the API", &["trustrelay_web", "axum", "matchit", "trustrelay::"]),
    place("HTTP", &["hyper", "httparse", "http::", "h2::"]),
    place("the runtime", &["tokio", "mio::", "parking_lot"]),
    place("memory and the rest", &[]),
];

/// A connection's own work begins with the first of these that a stack has.
const CONNECTION: &str = "hyper::proto::h1::dispatch";
/// Whatever else a thread does begins after the first of these.
const THREAD: [&str; 2] = ["worker::Context::run_task", "worker::run"];

/// How many samples a line of folded stacks stands for.
pub(super) fn count(stack: &str) -> usize {
    stack.rsplit_once(' ').and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
}

/// The same stacks without the frames in which all of them begin.
pub(super) fn from_the_request<'a>(folded: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut stacks: Vec<(String, usize)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for line in folded {
        let Some((stack, _)) = line.rsplit_once(' ') else { continue };
        let frames: Vec<&str> = stack.split(';').collect();
        let rest = frames[beginning(&frames)..].join(";");
        let stack = if rest.is_empty() { stack.to_owned() } else { rest };
        let at = *places.entry(stack.clone()).or_insert(stacks.len());
        if at == stacks.len() {
            stacks.push((stack, 0));
        }
        stacks[at].1 += count(line);
    }
    stacks.into_iter().map(|(stack, samples)| format!("{stack} {samples}")).collect()
}

/// Where a stack begins to say something. The first frame is the thread's name; a stack that was
/// too large to be kept whole begins with an unknown one.
fn beginning(frames: &[&str]) -> usize {
    let find = |part: &str| frames.iter().position(|frame| frame.contains(part));
    let thread = || THREAD.iter().find_map(|part| find(part)).map(|at| at + 1);
    find(CONNECTION).or_else(thread).unwrap_or_else(|| {
        let unknown = frames.iter().skip(1).take_while(|frame| **frame == "[unknown]").count();
        1 + unknown
    })
}

/// How many samples each place has.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: HashMap<&'static str, usize>,
    all: usize,
}

impl Shares {
    pub(super) fn of(stacks: &[String]) -> Self {
        let mut shares = Self::default();
        for line in stacks {
            let stack = line.rsplit_once(' ').map_or("", |(stack, _)| stack);
            *shares.of.entry(found(stack)).or_default() += count(line);
            shares.all += count(line);
        }
        shares
    }

    pub(super) fn percent(&self, place: &str) -> f64 {
        100.0 * self.of.get(place).copied().unwrap_or_default() as f64 / self.all.max(1) as f64
    }
}

/// Where this stack was: within the kernel if it went there, else where the innermost frame with a
/// place is.
fn found(stack: &str) -> &'static str {
    let is_at = |frame: &str, place: &Place| place.frames.iter().any(|part| frame.contains(part));
    let kernel = &WHERE[0];
    if stack.split(';').any(|frame| is_at(frame, kernel)) {
        return kernel.name;
    }
    let places = stack.rsplit(';').find_map(|frame| WHERE.iter().find(|place| is_at(frame, place)));
    places.unwrap_or(&WHERE[WHERE.len() - 1]).name
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: [&str; 6] = [
        "tokio-rt;start_thread;worker::run;worker::Context::run_task;serve;hyper::proto::h1::dispatch;trustrelay_token::digest;memcpy 3",
        "tokio-rt;[unknown];hyper::proto::h1::dispatch;trustrelay_token::digest;memcpy 2",
        "tokio-rt;start_thread;worker::run;worker::Context::run_task;serve;hyper::proto::h1::dispatch;writev;entry_SYSCALL_64;tcp 4",
        "tokio-rt;start_thread;worker::run;tokio::park 8",
        "tokio-rt;[unknown];[unknown];memcpy 2",
        "main 1",
    ];

    #[test]
    fn a_stack_begins_where_its_connection_does_and_equal_ones_become_one() {
        assert_eq!(
            from_the_request(FOLDED.into_iter()),
            [
                "hyper::proto::h1::dispatch;trustrelay_token::digest;memcpy 5",
                "hyper::proto::h1::dispatch;writev;entry_SYSCALL_64;tcp 4",
                "tokio::park 8",
                "memcpy 2",
                "main 1"
            ]
        );
    }

    #[test]
    fn a_sample_counts_where_the_innermost_frame_with_a_place_is() {
        let shares = Shares::of(&from_the_request(FOLDED.into_iter()));
        assert_eq!(shares.percent(WHERE[0].name), 20.0);
        assert_eq!(shares.percent(WHERE[1].name), 25.0);
        assert_eq!(shares.percent("the runtime"), 40.0);
        assert_eq!(shares.percent(WHERE[9].name), 15.0);
        assert_eq!(shares.percent("HTTP"), 0.0);
    }
}
