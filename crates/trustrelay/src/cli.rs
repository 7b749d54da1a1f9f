//! The command line. Every flag has an environment variable; what a server is set up with has a key in the file too.

mod audit;
mod secret;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use jiff::SignedDuration;
use url::Url;

pub(crate) use self::audit::{AuditCommand, AuditExport, AuditVerify};
pub(crate) use self::secret::{SecretCommand, SecretRetire, SecretRotate, SecretStatus};
use crate::duration::parse_duration;
use crate::secret_url::SecretUrl;

/// Personal access tokens for agents, scripts and services, and the MCP servers behind them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = "Example: trustrelay serve --dev")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line and the environment.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.place.key_file_by_flag =
            matches.value_source("secret_key_file") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

/// Where the data and the configuration are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The configuration file (TOML) [default: trustrelay.toml, if it is there]
    #[arg(long, global = true, env = "TRUSTRELAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The directory of the database and the key file [default: trustrelay-data]
    #[arg(long, global = true, env = "TRUSTRELAY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A PostgreSQL that several nodes share (postgres://…), instead of the data directory. The URL holds a password: the environment or the
    /// configuration file is a better place for it than the command line, which others can see
    #[arg(long, global = true, env = "TRUSTRELAY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<SecretUrl>,
    /// The file that holds the server secret [default: secret.key in the data directory]. TRUSTRELAY_SECRET_KEY holds the
    /// secret itself instead
    #[arg(long, global = true, env = "TRUSTRELAY_SECRET_KEY_FILE", value_name = "FILE")]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// Whether the key file was named by the flag: then it outweighs TRUSTRELAY_SECRET_KEY.
    #[arg(skip)]
    pub(crate) key_file_by_flag: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(
        after_help = "Examples:\n  trustrelay serve --dev\n  trustrelay serve --listen 0.0.0.0:8080 --public-url https://relay.example.org --upstream github=http://127.0.0.1:9000/mcp"
    )]
    Serve(Box<Serve>),
    /// Manage accounts
    #[command(
        after_help = "Example: echo \"$PASSWORD\" | trustrelay user add ada@example.org --password-stdin --admin"
    )]
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Manage tokens
    #[command(
        after_help = "Example: trustrelay token create --user ada@example.org --name ci-pipeline --scope \"mcp api:read\""
    )]
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// List the nodes that share the data, their leases, and how far each has applied the log of revocations
    #[command(after_help = "Example: trustrelay nodes --json")]
    Nodes(NodesList),
    /// The audit log: who changed what, when and from where
    #[command(after_help = "Example: trustrelay audit verify")]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Write all data into a file: accounts and tokens, and what they have done; no browser sessions
    #[command(after_help = "Example: trustrelay export backup.jsonl")]
    Export(ArchiveFile),
    /// Read all data from such a file, into a data directory or database that is empty. The secret must be the same
    #[command(
        after_help = "Example: TRUSTRELAY_DATABASE_URL=postgres://… trustrelay import backup.jsonl --secret-key-file secret.key"
    )]
    Import(ArchiveFile),
    /// Find tokens in files, by prefix and checksum: path:line:column and the hint, never the token. Exit 1 if there is one
    #[command(
        after_help = "Examples:\n  trustrelay scan .\n  git diff --cached | trustrelay scan -\n  trustrelay scan --sarif . > trustrelay.sarif"
    )]
    Scan(Scan),
    /// The server secret: make one, rotate it, see what depends on each
    #[command(after_help = "Example: trustrelay secret generate > secret.key")]
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

/// What the server is started with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, env = "TRUSTRELAY_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// An address for operators, such as 127.0.0.1:9100: /metrics is served there and no longer on
    /// --listen, the health checks on both [default: all of it on --listen]
    #[arg(long, env = "TRUSTRELAY_OPS_LISTEN", value_name = "ADDRESS")]
    pub(crate) ops_listen: Option<SocketAddr>,
    /// The address that people and agents use, if a proxy stands in front
    #[arg(long, env = "TRUSTRELAY_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Url>,
    /// The network of a proxy in front, such as 10.0.0.0/8: where it says that a request comes from is believed, and nobody else. May be given several
    /// times
    #[arg(long, env = "TRUSTRELAY_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) trusted_proxy: Vec<String>,
    /// The header in which trusted proxies say it: x-forwarded-for or forwarded. The other one is ignored [default: x-forwarded-for]
    #[arg(long, env = "TRUSTRELAY_TRUSTED_PROXY_HEADER", value_name = "HEADER")]
    pub(crate) trusted_proxy_header: Option<String>,
    /// The keys that GitHub's secret scanning signs with, as its API serves them: whoever signs so is told which of the tokens in a report
    /// of leaks are real
    #[arg(long, env = "TRUSTRELAY_GITHUB_KEYS", value_name = "FILE")]
    pub(crate) github_keys: Option<PathBuf>,
    /// The server that sends notices by mail: smtp://HOST:PORT, or smtps://USER:PASSWORD@HOST. The URL may hold a password: the environment or the
    /// configuration file is a better place for it than the command line
    #[arg(long, env = "TRUSTRELAY_SMTP_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) smtp_url: Option<SecretUrl>,
    /// From whom mail comes, such as relay@example.org
    #[arg(long, env = "TRUSTRELAY_MAIL_FROM", value_name = "ADDRESS")]
    pub(crate) mail_from: Option<String>,
    /// Let webhooks go into private networks, and there over http:// too
    #[arg(
        long,
        env = "TRUSTRELAY_WEBHOOK_PRIVATE_NETWORKS",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) webhook_private_networks: Option<bool>,
    /// Where the other nodes reach this one, such as http://10.0.0.5:8080: requests for a session that began here are carried here,
    /// whichever node they come to. For nodes that share a database
    #[arg(long, env = "TRUSTRELAY_NODE_URL", value_name = "URL")]
    pub(crate) node_url: Option<Url>,
    /// How long to go on serving after SIGTERM while /readyz says that this node stops, such as 3s: until a balancer sends it nothing more
    /// [default: 0s]
    #[arg(long, env = "TRUSTRELAY_DRAIN", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) drain: Option<SignedDuration>,
    /// An MCP server behind the relay; may be given several times
    #[arg(long, env = "TRUSTRELAY_UPSTREAM", value_name = "NAME=URL", value_delimiter = '\n')]
    pub(crate) upstream: Vec<String>,
    /// The longest that a dead node can delay a revocation, such as 2s
    #[arg(long, env = "TRUSTRELAY_LEASE", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lease: Option<SignedDuration>,
    /// How long the entries of the audit log are kept, at least 1d [default: 400d]
    #[arg(long, env = "TRUSTRELAY_AUDIT_RETENTION", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) audit_retention: Option<SignedDuration>,
    /// Where to send traces: the base of an OpenTelemetry collector's OTLP/HTTP endpoint, such as http://127.0.0.1:4318
    #[arg(long, env = "TRUSTRELAY_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<Url>,
    /// What to log, such as info or trustrelay=debug [default: info]
    #[arg(long, env = "TRUSTRELAY_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// For trying it out: loopback only, with an account dev@localhost, a token, and client configurations to paste
    #[arg(
        long,
        env = "TRUSTRELAY_DEV",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) dev: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct ArchiveFile {
    /// The file. It holds password hashes and the digests of tokens, so it is for its owner alone
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account; its password comes from standard input
    #[command(
        after_help = "Example: echo \"$PASSWORD\" | trustrelay user add ada@example.org --password-stdin"
    )]
    Add(UserAdd),
    /// Set the password of an account, such as a forgotten one; its browser sessions end, its tokens stay
    #[command(
        after_help = "Example: echo \"$PASSWORD\" | trustrelay user set-password ada@example.org --password-stdin"
    )]
    SetPassword(UserSetPassword),
    /// List the accounts
    #[command(after_help = "Example: trustrelay user list --json")]
    List(UserList),
    /// Print a link that makes an account, once and within seven days; whoever opens it sets the password
    #[command(
        after_help = "Example: trustrelay user invite eve@example.org --public-url https://relay.example.org"
    )]
    Invite(UserInvite),
    /// Make an account an administrator
    #[command(after_help = "Example: trustrelay user promote ada@example.org")]
    Promote(UserName),
    /// Take the administrator's role from an account; the last one that is enabled keeps it
    #[command(after_help = "Example: trustrelay user demote ada@example.org")]
    Demote(UserName),
    /// Disable an account: all its tokens are refused when this returns
    #[command(after_help = "Example: trustrelay user disable ada@example.org")]
    Disable(UserName),
    /// Enable an account again
    #[command(after_help = "Example: trustrelay user enable ada@example.org")]
    Enable(UserName),
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// The e-mail address
    pub(crate) email: String,
    /// Read the password from standard input (its first line)
    #[arg(long, required = true, env = "TRUSTRELAY_PASSWORD_STDIN", value_parser = BoolishValueParser::new())]
    pub(crate) password_stdin: bool,
    /// Make it an administrator
    #[arg(long, env = "TRUSTRELAY_ADMIN", value_parser = BoolishValueParser::new())]
    pub(crate) admin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserSetPassword {
    /// The e-mail address
    pub(crate) email: String,
    /// Read the password from standard input (its first line)
    #[arg(long, required = true, env = "TRUSTRELAY_PASSWORD_STDIN", value_parser = BoolishValueParser::new())]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserInvite {
    /// The e-mail address
    pub(crate) email: String,
    /// The account will administer
    #[arg(long, env = "TRUSTRELAY_ADMIN", value_parser = BoolishValueParser::new())]
    pub(crate) admin: bool,
    /// The address that people use [default: as in the configuration, or http://127.0.0.1:8080]
    #[arg(long, env = "TRUSTRELAY_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Url>,
}

#[derive(Debug, Args)]
pub(crate) struct UserList {
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodesList {
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserName {
    /// The account's e-mail address
    pub(crate) email: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, alone
    #[command(
        after_help = "Example: trustrelay token create --user ada@example.org --name ci-pipeline --scope mcp --expires-in 90d"
    )]
    Create(TokenCreate),
    /// List an account's active tokens
    #[command(after_help = "Example: trustrelay token list --user ada@example.org")]
    List(TokenList),
    /// Revoke a token: it is refused everywhere when this returns
    #[command(after_help = "Example: trustrelay token revoke 0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11")]
    Revoke(TokenRevoke),
    /// Give a token a new secret and print it, alone; the old one works on for a while. Of the data of this machine by PAT_ID, or with --server the
    /// token itself, from FILE, standard input or TRUSTRELAY_TOKEN (it needs the scope `rotate`)
    #[command(
        after_help = "Examples:\n  trustrelay token rotate 0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11 --overlap 1h\n  trustrelay token rotate --server https://relay.example.org < token.txt > new-token.txt"
    )]
    Rotate(TokenRotate),
    /// Make a narrower token with a token from FILE, standard input or TRUSTRELAY_TOKEN (it needs the scope `tokens`), for a sub-agent or a job,
    /// and print it, alone. It is revoked with the one that it was made with
    #[command(
        after_help = "Example: trustrelay token delegate --server https://relay.example.org --name nightly-job --scope mcp:github --expires-in 1h < token.txt"
    )]
    Delegate(TokenDelegate),
    /// Check a token from FILE, standard input or TRUSTRELAY_TOKEN. Exit 0: good; 3: expires soon; 1: bad
    #[command(
        after_help = "Example: trustrelay token check --server https://relay.example.org --warn 14d < token.txt"
    )]
    Check(TokenCheck),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// The account's e-mail address
    #[arg(long, env = "TRUSTRELAY_USER")]
    pub(crate) user: String,
    /// What will use the token, such as ci-pipeline
    #[arg(long, env = "TRUSTRELAY_NAME")]
    pub(crate) name: String,
    /// What it opens, space-separated: mcp, mcp:read, mcp:NAME, mcp:NAME/TOOL, api, api:read, tokens, rotate
    #[arg(long, env = "TRUSTRELAY_SCOPE")]
    pub(crate) scope: String,
    /// How long it lives, such as 90d or 12h; at most 365d [default: 365d]
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration)]
    pub(crate) expires_in: Option<SignedDuration>,
    /// A network that it may be used from, such as 10.0.0.0/8; may be given several times [default: from anywhere]
    #[arg(long, env = "TRUSTRELAY_ALLOW_NETWORK", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) allow_network: Vec<String>,
    /// How many requests it may make in a minute, on each node
    #[arg(long, env = "TRUSTRELAY_RATE", value_name = "REQUESTS")]
    pub(crate) rate: Option<i64>,
    /// End it if it is not used for so many days
    #[arg(long, env = "TRUSTRELAY_UNUSED_DAYS", value_name = "DAYS")]
    pub(crate) unused_days: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenList {
    /// The account's e-mail address
    #[arg(long, env = "TRUSTRELAY_USER")]
    pub(crate) user: String,
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// The token's id, as `token list` shows it
    pub(crate) pat_id: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRotate {
    /// The token's id, as `token list` shows it
    pub(crate) pat_id: Option<String>,
    /// Have the token rotate itself at this server
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// With --server: the file that holds the token; `-` or nothing: standard input, or TRUSTRELAY_TOKEN if that is set
    #[arg(long, env = "TRUSTRELAY_TOKEN_FILE", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How long the old secret works, such as 24h or 0s; at most 7d [default: 24h]
    #[arg(long, env = "TRUSTRELAY_OVERLAP", value_parser = parse_duration, conflicts_with = "until_first_use")]
    pub(crate) overlap: Option<SignedDuration>,
    /// The old secret works until the new one is used for the first time
    #[arg(long, env = "TRUSTRELAY_UNTIL_FIRST_USE", value_parser = BoolishValueParser::new())]
    pub(crate) until_first_use: bool,
    /// How long the token lives from now on, such as 90d [default: as long again as it did]
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration)]
    pub(crate) expires_in: Option<SignedDuration>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenDelegate {
    /// The server of the token
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Url,
    /// What will use the new token, such as nightly-job
    #[arg(long, env = "TRUSTRELAY_NAME")]
    pub(crate) name: String,
    /// What it opens, space-separated: no more than the one that it is made with
    #[arg(long, env = "TRUSTRELAY_SCOPE")]
    pub(crate) scope: String,
    /// How long it lives, such as 1h; no longer than the one that it is made with
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration, default_value = "1d")]
    pub(crate) expires_in: SignedDuration,
    /// The file that holds the token; `-` or nothing: standard input, or TRUSTRELAY_TOKEN if that is set
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenCheck {
    /// Ask this server whose the token is and when it expires
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// Exit 3 if it expires within this time
    #[arg(long, env = "TRUSTRELAY_WARN", value_parser = parse_duration, default_value = "30d")]
    pub(crate) warn: SignedDuration,
    /// The file that holds the token; `-` or nothing: standard input, or TRUSTRELAY_TOKEN if that is set
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Files, and folders with all below them but `.git` and what .gitignore leaves out; `-`: standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// As JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new(), conflicts_with = "sarif")]
    pub(crate) json: bool,
    /// As SARIF 2.1.0, which code hosts show beside the code
    #[arg(long, env = "TRUSTRELAY_SARIF", value_parser = BoolishValueParser::new())]
    pub(crate) sarif: bool,
    /// Look at everything: also at `.git` and at what .gitignore leaves out
    #[arg(long, env = "TRUSTRELAY_NO_IGNORE", value_parser = BoolishValueParser::new())]
    pub(crate) no_ignore: bool,
    /// Leave out what matches, as a line of a .gitignore here would; may be given several times
    #[arg(long, env = "TRUSTRELAY_EXCLUDE", value_name = "GLOB", value_delimiter = '\n')]
    pub(crate) exclude: Vec<String>,
}
