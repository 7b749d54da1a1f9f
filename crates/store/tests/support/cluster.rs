//! A real PostgreSQL server for the tests: created anew, on a free loopback port and a socket, and
//! removed after the tests.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The role that owns the databases and has no other rights.
pub const ROLE: &str = "relay";
pub const PASSWORD: &str = "pw-of-the-role";
/// Time limit for any operation. More than enough on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Guards the server. When the test process ends for any reason, the pipe on standard input closes.
/// The guard then ends the server by its id and removes its directory. A line on the pipe keeps the
/// directory.
const GUARD: &str = r#"
"$1" -D "$2/data" >>"$2/log" 2>&1 &
server=$!
read -r word
kill -QUIT $server 2>/dev/null
wait $server
[ -n "$word" ] || rm -rf "$2"
"#;

pub struct Cluster {
    /// The directory of the server. It contains the data directory and the sockets.
    dir: TempDir,
    programs: PathBuf,
    pub port: u16,
    is_durable: bool,
    running: Option<(Child, ChildStdin)>,
    databases: AtomicU64,
}

impl Cluster {
    /// Returns the cluster that all tests of a binary share. Each test has its own database.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a cluster for a single test, which may restart and break it.
    pub fn start() -> Self {
        Self::made(Self::empty())
    }

    /// Starts a cluster that keeps its data on disk and flushes every commit, for measurements.
    pub fn durable() -> Self {
        Self::made(Self::empty_in(std::env::temp_dir(), true))
    }

    fn made(mut cluster: Self) -> Self {
        let data = cluster.data();
        let mut initdb = cluster.program("initdb");
        initdb.args([
            "--no-sync",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "-D",
        ]);
        finish(initdb.arg(&data));
        cluster.settle();
        let access =
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all trust\n";
        std::fs::write(data.join("pg_hba.conf"), access).expect("written");
        cluster.begin();
        cluster.sql(&format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"));
        cluster
    }

    /// Starts a standby that follows another cluster.
    pub fn standby_of(primary: &Self) -> Self {
        let mut cluster = Self::empty();
        let mut copy = cluster.program("pg_basebackup");
        let port = primary.port.to_string();
        copy.args([
            "--no-sync",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "-U",
            "postgres",
            "-p",
            &port,
            "-h",
        ]);
        finish(copy.arg(primary.dir.path()).arg("-D").arg(cluster.data()));
        cluster.settle();
        cluster.begin();
        cluster
    }

    /// Promotes a standby to primary.
    pub fn promote(&mut self) {
        assert_eq!(self.sql("SELECT pg_promote()"), "t");
    }

    fn empty() -> Self {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        Self::empty_in(parent, false)
    }

    fn empty_in(parent: PathBuf, is_durable: bool) -> Self {
        let programs = programs();
        let dir = tempfile::Builder::new().prefix("pg").tempdir_in(parent).expect("a folder");
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("given away");
        }
        let databases = AtomicU64::new(0);
        Self { dir, programs, port: free_port(), is_durable, running: None, databases }
    }

    /// Writes the settings that all clusters share. A server that shuts down waits for silent
    /// connections until their authentication times out, so this timeout is shorter than the
    /// default of a minute.
    fn settle(&self) {
        let fsync = if self.is_durable { "on" } else { "off" };
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = {fsync}\nmax_connections = 200\n\
             dynamic_shared_memory_type = mmap\nwal_retrieve_retry_interval = 100ms\n\
             authentication_timeout = 3s\n",
            self.port,
            self.socket()
        );
        self.append("postgresql.conf", &settings);
    }

    /// Returns the directory of the socket.
    pub fn socket(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// Writes a file into the data directory, readable by the server only.
    pub fn put(&self, file: &str, text: &str) {
        let path = self.data().join(file);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("given away");
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Appends to a configuration file.
    pub fn append(&self, file: &str, text: &str) {
        let path = self.data().join(file);
        let old = std::fs::read_to_string(&path).expect("there");
        std::fs::write(path, old + text).expect("written");
    }

    /// Starts the server and waits until it answers.
    pub fn begin(&mut self) {
        let mut guard = self.unprivileged(Command::new("sh"));
        guard.args(["-c", GUARD, "guard"]).arg(self.programs.join("postgres")).arg(self.dir.path());
        let mut child =
            guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let stdin = child.stdin.take().expect("piped");
        self.running = Some((child, stdin));
        let begun = Instant::now();
        while !self.psql("postgres", "SELECT 1").0 {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start: {}", log());
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn crash(&mut self) {
        let (mut child, mut stdin) = self.running.take().expect("it runs");
        stdin.write_all(b"stay\n").expect("it listens");
        child.wait().expect("ends");
    }

    /// Returns a PostgreSQL program, run as the server's user.
    pub fn program(&self, name: &str) -> Command {
        self.unprivileged(Command::new(self.programs.join(name)))
    }

    fn unprivileged(&self, mut command: Command) -> Command {
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.dir.path());
        command
    }

    /// Creates an empty database and returns its name.
    pub fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql(&format!("CREATE DATABASE {name} OWNER {ROLE}"));
        name
    }

    /// Returns the URL through the socket, where no password is needed.
    pub fn url(&self, database: &str) -> String {
        let socket = self.socket().replace('/', "%2F");
        format!("postgres://{ROLE}@{socket}:{}/{database}", self.port)
    }

    /// Returns the URL through the network, with a password.
    pub fn network_url(&self, database: &str) -> String {
        format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL as the administrator.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let (good, said) = self.psql(database, sql);
        assert!(good, "{sql}: {said}");
        said
    }

    fn psql(&self, database: &str, sql: &str) -> (bool, String) {
        let port = self.port.to_string();
        let out = self
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &port, "-h"])
            .arg(self.dir.path())
            .args(["-d", database, "-c", sql])
            .output()
            .expect("psql starts");
        let text = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.running.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }
}

/// Returns the user to run PostgreSQL as. It refuses to run as root, so the package's own user is
/// used then.
fn unprivileged() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
        is_root.then(|| {
            let users = std::fs::read_to_string("/etc/passwd").expect("readable");
            let line = users.lines().find(|line| line.starts_with("postgres:")).unwrap_or_else(|| missing());
            let mut fields = line.split(':').skip(2).map(|id| id.parse().expect("an id"));
            (fields.next().expect("a uid"), fields.next().expect("a gid"))
        })
    })
}

fn missing() -> ! {
    panic!("PostgreSQL's server is not installed; run `cargo xtask test`, which installs what the tests need")
}

/// Returns the directory of PostgreSQL's programs: Debian's newest version, or the one in the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).map(|dir| (0, dir));
    let all =
        debian.chain(others).filter(|(_, dir)| dir.join("initdb").exists() && dir.join("postgres").exists());
    all.max_by_key(|(version, _)| *version).map_or_else(|| missing(), |(_, dir)| dir)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn finish(command: &mut Command) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("ends").success(), "{command:?}: {said}");
}
