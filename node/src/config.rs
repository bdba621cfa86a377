//! A home: the folder of one node, its configuration file, and where everything in it lies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::platform;
use crate::retention::Retention;

/// `lotline.toml`. Unknown keys are refused; `docs/operating.md` lists the same fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the organisation calls itself; partners see it.
    pub name: String,
    /// TCP addresses to listen on for partners, as `0.0.0.0:4001`. Empty: dial out only, which needs no open port.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Addresses put into invitations, when partners reach this node under another one (a firewall's, a name).
    #[serde(default)]
    pub announce: Vec<String>,
    /// Relays at which a place is kept, as `relay://ID@relay.example:4001`, for a node that nobody can dial; two at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<String>,
    /// Where the page and the local API listen; loopback only.
    #[serde(default = "default_page")]
    pub page: SocketAddr,
    /// Whether fields about persons are imported at all.
    #[serde(default)]
    pub persons: bool,
    /// How long records are kept, by kind and customer; `status` lists what is past its time.
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
    /// WebSockets: certificates, and a proxy on the way out.
    #[serde(default, skip_serializing_if = "WebFiles::is_empty")]
    pub web: WebFiles,
    /// Bounds of `lotline run --relay`.
    #[serde(default, skip_serializing_if = "RelayBounds::is_default")]
    pub relay: RelayBounds,
}

impl Config {
    /// A node of this name that listens nowhere and keeps everything for ever.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: Vec::new(),
            announce: Vec::new(),
            relays: Vec::new(),
            page: default_page(),
            persons: false,
            retention: Retention::default(),
            web: WebFiles::default(),
            relay: RelayBounds::default(),
        }
    }
}

/// How much a node does for others as their relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayBounds {
    /// Nodes that keep a place here, at most.
    pub places: usize,
    /// Lines put through at once, at most.
    pub lines: usize,
}

impl Default for RelayBounds {
    fn default() -> Self {
        Self { places: 4096, lines: 1024 }
    }
}

impl RelayBounds {
    fn is_default(&self) -> bool {
        *self == RelayBounds::default()
    }
}

/// For addresses that begin with `wss://`: PEM files, whose path is one in the home unless it is absolute; and a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebFiles {
    /// To listen at one without a proxy in front of the node: the certificate chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The key of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Certificates that are trusted at partners beside the public ones: of a firm's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// The firm's HTTP proxy, as `http://proxy.example:3128`, through which such addresses are dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

impl WebFiles {
    fn is_empty(&self) -> bool {
        *self == WebFiles::default()
    }
}

fn default_page() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A home that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is none.
    #[error("there is no Lotline home at `{0}`")]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a Lotline home at `{0}` already")]
    Exists(PathBuf),
    /// No folder could be named.
    #[error("no folder for the home: set LOTLINE_HOME or give --home")]
    Nowhere,
    /// A file of it cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration is not in form.
    #[error("`{path}`: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        why: String,
    },
}

/// The folder of one node.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// At a path, or where the platform keeps a user's data. Nothing is read yet.
    pub fn at(path: Option<&Path>) -> Result<Home, HomeError> {
        let path = path.map(Path::to_path_buf).or_else(platform::default_home).ok_or(HomeError::Nowhere)?;
        let path = std::path::absolute(&path).map_err(|source| HomeError::File { path, source })?;
        Ok(Home { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("lotline.toml")
    }

    /// The working keys.
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Journal, index and seal.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The sharing rules as the owner edits them; the applied version is in the store.
    pub fn policy_file(&self) -> PathBuf {
        self.path.join("policy.toml")
    }

    /// Where the running node's API answers.
    pub fn run_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// The API's token.
    pub fn token_file(&self) -> PathBuf {
        self.path.join("api-token")
    }

    /// The key with which a monitoring program reads the metrics.
    pub fn metrics_token_file(&self) -> PathBuf {
        self.path.join("metrics-token")
    }

    /// Invitations that were made for single suppliers and wait for them: secret until used.
    pub fn invitations_file(&self) -> PathBuf {
        self.path.join("invitations.json")
    }

    /// Who may use this node as a relay beside its partners: a peer id a line, and what you like behind it.
    pub fn relay_users_file(&self) -> PathBuf {
        self.path.join("relay-users.txt")
    }

    /// Whether it has been set up.
    pub fn exists(&self) -> bool {
        self.config_file().exists()
    }

    /// Reads the configuration.
    pub fn config(&self) -> Result<Config, HomeError> {
        if !self.exists() {
            return Err(HomeError::Missing(self.path.clone()));
        }
        let path = self.config_file();
        let text = std::fs::read_to_string(&path).map_err(|source| HomeError::File { path: path.clone(), source })?;
        let config: Config = toml::from_str(&text).map_err(|why| HomeError::Config { path: path.clone(), why: why.to_string() })?;
        if !config.page.ip().is_loopback() {
            let why = format!("page = \"{}\" is not a loopback address; the page has no business on a network", config.page);
            return Err(HomeError::Config { path, why });
        }
        if config.web.certificate.is_some() != config.web.key.is_some() {
            let why = "web.certificate and web.key belong together: give both, or none".to_owned();
            return Err(HomeError::Config { path, why });
        }
        self.web(&config)?;
        Ok(config)
    }

    /// The certificates for WebSockets, as files, and the way out.
    pub fn web(&self, config: &Config) -> Result<crate::net::Web, HomeError> {
        let at = |path: &PathBuf| self.path.join(path);
        let certificate = config.web.certificate.as_ref().map(at).zip(config.web.key.as_ref().map(at));
        let proxy = config.web.proxy.as_ref().map(|text| text.parse::<crate::net::Proxy>()).transpose();
        let proxy = proxy.map_err(|why| HomeError::Config { path: self.config_file(), why: format!("web.proxy: {why}") })?;
        Ok(crate::net::Web { certificate, trust: config.web.trust.as_ref().map(at), proxy })
    }

    /// Writes the configuration.
    pub fn write_config(&self, config: &Config) -> Result<(), HomeError> {
        let path = self.config_file();
        let text = toml::to_string(config).expect("a Config is plain data");
        let text = format!("# Lotline: docs/operating.md explains each line.\n{text}");
        platform::write_file(&path, text.as_bytes()).map_err(|source| HomeError::File { path, source })
    }
}
