//! The command line. Every flag has an environment variable; what a server is set up with has a key
//! in the file too.

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
    /// Configuration file (TOML) [default: trustrelay.toml, if it exists]
    #[arg(long, global = true, env = "TRUSTRELAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory with the database and the key file [default: trustrelay-data]
    #[arg(long, global = true, env = "TRUSTRELAY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// PostgreSQL database that several nodes share (postgres://…), instead of the data directory.
    /// Because the URL contains a password, set it in the environment or the configuration file:
    /// other users can see the command line
    #[arg(long, global = true, env = "TRUSTRELAY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<SecretUrl>,
    /// File with the server secret [default: secret.key in the data directory].
    /// TRUSTRELAY_SECRET_KEY can hold the secret itself instead
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
    /// List the nodes that share the data, their leases, and how far each has applied the log of
    /// revocations
    #[command(after_help = "Example: trustrelay nodes --json")]
    Nodes(NodesList),
    /// Verify or export the audit log: who changed what, when and from where
    #[command(after_help = "Example: trustrelay audit verify")]
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Export all data to a file: accounts, tokens and their history, but no browser sessions
    #[command(after_help = "Example: trustrelay export backup.jsonl")]
    Export(ArchiveFile),
    /// Import all data from an exported file into an empty data directory or database. The server
    /// secret must be the same
    #[command(
        after_help = "Example: TRUSTRELAY_DATABASE_URL=postgres://… trustrelay import backup.jsonl --secret-key-file secret.key"
    )]
    Import(ArchiveFile),
    /// Find tokens in files, by prefix and checksum. Prints path:line:column and the hint, never
    /// the token. Exits with 1 if it finds a token
    #[command(
        after_help = "Examples:\n  trustrelay scan .\n  git diff --cached | trustrelay scan -\n  trustrelay scan --sarif . > trustrelay.sarif"
    )]
    Scan(Scan),
    /// Manage the server secret: generate, rotate and retire secrets, and see what depends on each
    #[command(after_help = "Example: trustrelay secret generate > secret.key")]
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

/// What the server is started with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "TRUSTRELAY_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Separate address for operators, such as 127.0.0.1:9100: /metrics moves there from
    /// --listen, and the health checks are served on both [default: everything on --listen]
    #[arg(long, env = "TRUSTRELAY_OPS_LISTEN", value_name = "ADDRESS")]
    pub(crate) ops_listen: Option<SocketAddr>,
    /// URL that people and agents use, if the server is behind a proxy
    #[arg(long, env = "TRUSTRELAY_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Url>,
    /// Network of a trusted proxy, such as 10.0.0.0/8: only trusted proxies can set the client
    /// address of a request. Can be given several times
    #[arg(long, env = "TRUSTRELAY_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) trusted_proxy: Vec<String>,
    /// Header in which trusted proxies send the client address: x-forwarded-for or forwarded. The
    /// other one is ignored [default: x-forwarded-for]
    #[arg(long, env = "TRUSTRELAY_TRUSTED_PROXY_HEADER", value_name = "HEADER")]
    pub(crate) trusted_proxy_header: Option<String>,
    /// File with the public keys of GitHub's secret scanning, as GitHub's API serves them: answers
    /// to signed leak reports say which of the tokens are real
    #[arg(long, env = "TRUSTRELAY_GITHUB_KEYS", value_name = "FILE")]
    pub(crate) github_keys: Option<PathBuf>,
    /// SMTP server for notices by email: smtp://HOST:PORT, or smtps://USER:PASSWORD@HOST. If the
    /// URL contains a password, set it in the environment or the configuration file: other users
    /// can see the command line
    #[arg(long, env = "TRUSTRELAY_SMTP_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) smtp_url: Option<SecretUrl>,
    /// Sender address of emails, such as relay@example.org
    #[arg(long, env = "TRUSTRELAY_MAIL_FROM", value_name = "ADDRESS")]
    pub(crate) mail_from: Option<String>,
    /// Allow webhooks to private networks, also over http://
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
    /// URL at which other nodes reach this node, such as http://10.0.0.5:8080: they forward the
    /// requests of its MCP sessions to it. For nodes that share a database
    #[arg(long, env = "TRUSTRELAY_NODE_URL", value_name = "URL")]
    pub(crate) node_url: Option<Url>,
    /// How long to keep serving after SIGTERM while /readyz reports that the node is stopping, such
    /// as 3s, so that load balancers can react [default: 0s]
    #[arg(long, env = "TRUSTRELAY_DRAIN", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) drain: Option<SignedDuration>,
    /// MCP server behind the relay; can be given several times
    #[arg(long, env = "TRUSTRELAY_UPSTREAM", value_name = "NAME=URL", value_delimiter = '\n')]
    pub(crate) upstream: Vec<String>,
    /// Longest time that a dead node can delay a revocation, such as 2s
    #[arg(long, env = "TRUSTRELAY_LEASE", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lease: Option<SignedDuration>,
    /// How long to keep audit log entries, at least 1d [default: 400d]
    #[arg(long, env = "TRUSTRELAY_AUDIT_RETENTION", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) audit_retention: Option<SignedDuration>,
    /// Base URL of an OpenTelemetry collector (OTLP/HTTP) to send traces to, such as
    /// http://127.0.0.1:4318
    #[arg(long, env = "TRUSTRELAY_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<Url>,
    /// What to log, such as info or trustrelay=debug [default: info]
    #[arg(long, env = "TRUSTRELAY_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Development mode: loopback only, with an account dev@localhost, a token, and client
    /// configurations to paste
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
    /// The file. It contains password hashes and token digests, so only its owner can read it
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an account; the password is read from standard input
    #[command(
        after_help = "Example: echo \"$PASSWORD\" | trustrelay user add ada@example.org --password-stdin"
    )]
    Add(UserAdd),
    /// Set the password of an account, for example a forgotten one. Its browser sessions end; its
    /// tokens keep working
    #[command(
        after_help = "Example: echo \"$PASSWORD\" | trustrelay user set-password ada@example.org --password-stdin"
    )]
    SetPassword(UserSetPassword),
    /// List the accounts
    #[command(after_help = "Example: trustrelay user list --json")]
    List(UserList),
    /// Print an invitation link for a new account. The link works once, within seven days, and lets
    /// anyone who opens it set the password
    #[command(
        after_help = "Example: trustrelay user invite eve@example.org --public-url https://relay.example.org"
    )]
    Invite(UserInvite),
    /// Make an account an administrator
    #[command(after_help = "Example: trustrelay user promote ada@example.org")]
    Promote(UserName),
    /// Remove the administrator role from an account, unless it is the last enabled administrator
    #[command(after_help = "Example: trustrelay user demote ada@example.org")]
    Demote(UserName),
    /// Disable an account: once this returns, all its tokens are refused
    #[command(after_help = "Example: trustrelay user disable ada@example.org")]
    Disable(UserName),
    /// Enable an account again
    #[command(after_help = "Example: trustrelay user enable ada@example.org")]
    Enable(UserName),
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// Email address of the account
    pub(crate) email: String,
    /// Read the password from standard input (its first line)
    #[arg(long, required = true, env = "TRUSTRELAY_PASSWORD_STDIN", value_parser = BoolishValueParser::new())]
    pub(crate) password_stdin: bool,
    /// Make the account an administrator
    #[arg(long, env = "TRUSTRELAY_ADMIN", value_parser = BoolishValueParser::new())]
    pub(crate) admin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserSetPassword {
    /// Email address of the account
    pub(crate) email: String,
    /// Read the password from standard input (its first line)
    #[arg(long, required = true, env = "TRUSTRELAY_PASSWORD_STDIN", value_parser = BoolishValueParser::new())]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserInvite {
    /// Email address of the account
    pub(crate) email: String,
    /// Invite as an administrator
    #[arg(long, env = "TRUSTRELAY_ADMIN", value_parser = BoolishValueParser::new())]
    pub(crate) admin: bool,
    /// URL of the server in the link [default: from the configuration, or http://127.0.0.1:8080]
    #[arg(long, env = "TRUSTRELAY_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Url>,
}

#[derive(Debug, Args)]
pub(crate) struct UserList {
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodesList {
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UserName {
    /// Email address of the account
    pub(crate) email: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print only the token
    #[command(
        after_help = "Example: trustrelay token create --user ada@example.org --name ci-pipeline --scope mcp --expires-in 90d"
    )]
    Create(TokenCreate),
    /// List an account's active tokens
    #[command(after_help = "Example: trustrelay token list --user ada@example.org")]
    List(TokenList),
    /// Revoke a token: once this returns, it is refused everywhere
    #[command(after_help = "Example: trustrelay token revoke 0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11")]
    Revoke(TokenRevoke),
    /// Give a token a new secret and print only the new token; the old secret keeps working for a
    /// while. Use PAT_ID for the data on this machine, or --server to let a token from FILE,
    /// standard input or TRUSTRELAY_TOKEN rotate itself (it needs the scope `rotate`)
    #[command(
        after_help = "Examples:\n  trustrelay token rotate 0199c2c5-6a4e-7c3e-9a34-2f6d2a1f7e11 --overlap 1h\n  trustrelay token rotate --server https://relay.example.org < token.txt > new-token.txt"
    )]
    Rotate(TokenRotate),
    /// Create a narrower token for a sub-agent or a job, with a token from FILE, standard input or
    /// TRUSTRELAY_TOKEN (it needs the scope `tokens`), and print only the new token. The new token
    /// is revoked together with the token that created it
    #[command(
        after_help = "Example: trustrelay token delegate --server https://relay.example.org --name nightly-job --scope mcp:github --expires-in 1h < token.txt"
    )]
    Delegate(TokenDelegate),
    /// Check a token from FILE, standard input or TRUSTRELAY_TOKEN. Exit codes: 0 good, 3 expires
    /// soon, 1 bad
    #[command(
        after_help = "Example: trustrelay token check --server https://relay.example.org --warn 14d < token.txt"
    )]
    Check(TokenCheck),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// Email address of the account
    #[arg(long, env = "TRUSTRELAY_USER")]
    pub(crate) user: String,
    /// Name of the token: what will use it, such as ci-pipeline
    #[arg(long, env = "TRUSTRELAY_NAME")]
    pub(crate) name: String,
    /// Scopes, separated by spaces: mcp, mcp:read, mcp:NAME, mcp:NAME/TOOL, api, api:read, tokens,
    /// rotate
    #[arg(long, env = "TRUSTRELAY_SCOPE")]
    pub(crate) scope: String,
    /// Lifetime, such as 90d or 12h; at most 365d [default: 365d]
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration)]
    pub(crate) expires_in: Option<SignedDuration>,
    /// Allowed IP range, such as 10.0.0.0/8; can be given several times [default: anywhere]
    #[arg(long, env = "TRUSTRELAY_ALLOW_NETWORK", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) allow_network: Vec<String>,
    /// Maximum number of requests per minute, on each node
    #[arg(long, env = "TRUSTRELAY_RATE", value_name = "REQUESTS")]
    pub(crate) rate: Option<i64>,
    /// Revoke the token after this many days without use
    #[arg(long, env = "TRUSTRELAY_UNUSED_DAYS", value_name = "DAYS")]
    pub(crate) unused_days: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenList {
    /// Email address of the account
    #[arg(long, env = "TRUSTRELAY_USER")]
    pub(crate) user: String,
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// Id of the token, from `token list`
    pub(crate) pat_id: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRotate {
    /// Id of the token, from `token list`
    pub(crate) pat_id: Option<String>,
    /// Server at which the token rotates itself
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// With --server: file with the token [default: TRUSTRELAY_TOKEN if it is set, otherwise
    /// standard input]; `-` is standard input
    #[arg(long, env = "TRUSTRELAY_TOKEN_FILE", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How long the old secret keeps working, such as 24h or 0s; at most 7d [default: 24h]
    #[arg(long, env = "TRUSTRELAY_OVERLAP", value_parser = parse_duration, conflicts_with = "until_first_use")]
    pub(crate) overlap: Option<SignedDuration>,
    /// Keep the old secret working until the new one is first used
    #[arg(long, env = "TRUSTRELAY_UNTIL_FIRST_USE", value_parser = BoolishValueParser::new())]
    pub(crate) until_first_use: bool,
    /// New lifetime from now on, such as 90d [default: the original lifetime again]
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration)]
    pub(crate) expires_in: Option<SignedDuration>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenDelegate {
    /// Server of the token
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Url,
    /// Name of the new token: what will use it, such as nightly-job
    #[arg(long, env = "TRUSTRELAY_NAME")]
    pub(crate) name: String,
    /// Scopes, separated by spaces; no more than the token that creates it has
    #[arg(long, env = "TRUSTRELAY_SCOPE")]
    pub(crate) scope: String,
    /// Lifetime, such as 1h; no longer than that of the token that creates it
    #[arg(long, env = "TRUSTRELAY_EXPIRES_IN", value_parser = parse_duration, default_value = "1d")]
    pub(crate) expires_in: SignedDuration,
    /// File with the token [default: TRUSTRELAY_TOKEN if it is set, otherwise standard input]; `-`
    /// is standard input
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenCheck {
    /// Ask this server whose token it is and when it expires
    #[arg(long, env = "TRUSTRELAY_SERVER", value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// Exit with 3 if the token expires within this time
    #[arg(long, env = "TRUSTRELAY_WARN", value_parser = parse_duration, default_value = "30d")]
    pub(crate) warn: SignedDuration,
    /// File with the token [default: TRUSTRELAY_TOKEN if it is set, otherwise standard input]; `-`
    /// is standard input
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Files, or folders, which are scanned without `.git` and ignored files; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long, env = "TRUSTRELAY_JSON", value_parser = BoolishValueParser::new(), conflicts_with = "sarif")]
    pub(crate) json: bool,
    /// Print SARIF 2.1.0, which code hosts show next to the code
    #[arg(long, env = "TRUSTRELAY_SARIF", value_parser = BoolishValueParser::new())]
    pub(crate) sarif: bool,
    /// Scan everything, including `.git` and files that .gitignore excludes
    #[arg(long, env = "TRUSTRELAY_NO_IGNORE", value_parser = BoolishValueParser::new())]
    pub(crate) no_ignore: bool,
    /// Exclude files that match this .gitignore pattern; can be given several times
    #[arg(long, env = "TRUSTRELAY_EXCLUDE", value_name = "GLOB", value_delimiter = '\n')]
    pub(crate) exclude: Vec<String>,
}
