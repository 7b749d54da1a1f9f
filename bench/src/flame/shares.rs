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

/// From here on a stack is about one connection, or about none.
const BEFORE: [&str; 2] = ["worker::Context::run_task", "worker::run"];

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
        let begins = BEFORE.iter().find_map(|before| frames.iter().position(|frame| frame.contains(before)));
        let rest = frames[begins.map_or(0, |at| at + 1)..].join(";");
        let stack = if rest.is_empty() { stack.to_owned() } else { rest };
        let at = *places.entry(stack.clone()).or_insert(stacks.len());
        if at == stacks.len() {
            stacks.push((stack, 0));
        }
        stacks[at].1 += count(line);
    }
    stacks.into_iter().map(|(stack, samples)| format!("{stack} {samples}")).collect()
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

/// Where this stack was: within the kernel if it went there, else where the innermost frame with a place is.
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

    const FOLDED: [&str; 4] = [
        "tokio-rt;start_thread;tokio::worker::run;tokio::worker::Context::run_task;hyper::poll;trustrelay_token::digest;memcpy 3",
        "tokio-rt;other_start;tokio::worker::run;tokio::worker::Context::run_task;hyper::poll;trustrelay_token::digest;memcpy 2",
        "tokio-rt;start_thread;tokio::worker::run;tokio::worker::Context::run_task;hyper::poll;writev;entry_SYSCALL_64;tcp 4",
        "main;memcpy 1",
    ];

    #[test]
    fn a_stack_begins_where_its_request_does_and_equal_ones_become_one() {
        let stacks = from_the_request(FOLDED.into_iter());
        assert_eq!(
            stacks,
            [
                "hyper::poll;trustrelay_token::digest;memcpy 5",
                "hyper::poll;writev;entry_SYSCALL_64;tcp 4",
                "main;memcpy 1"
            ]
        );
    }

    #[test]
    fn a_sample_counts_where_the_innermost_frame_with_a_place_is() {
        let shares = Shares::of(&from_the_request(FOLDED.into_iter()));
        assert_eq!(shares.percent(WHERE[0].name), 40.0);
        assert_eq!(shares.percent(WHERE[1].name), 50.0);
        assert_eq!(shares.percent(WHERE[9].name), 10.0);
        assert_eq!(shares.percent("HTTP"), 0.0);
        let all: f64 = WHERE.iter().map(|place| shares.percent(place.name)).sum();
        assert_eq!(all, 100.0);
    }
}
