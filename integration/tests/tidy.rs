//! The rules of the house that a compiler does not check: which room may name what, and what no file may hold.
//!
//! Each rule is a function from a file to its offences, so that every rule is also shown a file that breaks it.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// A file of the workspace: its path from the root, with `/` between folders, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// In one of these files, or under one of these folders (which end in `/`).
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || (place.ends_with('/') && self.path.starts_with(place)))
    }

    /// The lines with their numbers, without comments and the contents of string literals of one line.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, code_of(line)))
    }
}

fn code_of(line: &str) -> String {
    let (mut code, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        code.push_str(before);
        if from.starts_with("//") {
            return code;
        }
        if let Some(behind) = from.strip_prefix("'\"'") {
            rest = behind;
        } else if let Some(literal) = from.strip_prefix('"') {
            let escaped = |at: usize| literal[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
            let end = literal.match_indices('"').map(|(at, _)| at).find(|at| !escaped(*at));
            rest = end.map_or("", |end| &literal[end + 1..]);
            code.push_str("\"\"");
        } else {
            code.push_str(&from[..1]);
            rest = &from[1..];
        }
    }
    code + rest
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every text file of the workspace that people write.
fn files() -> Vec<File> {
    const KINDS: [&str; 12] = ["rs", "toml", "md", "html", "css", "js", "yml", "yaml", "sh", "json", "txt", "csv"];
    const APART: [&str; 3] = ["target", ".git", "node_modules"];
    let (mut folders, mut files) = (vec![root()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let written = path.extension().is_none_or(|kind| KINDS.iter().any(|known| kind == *known));
            if path.is_dir() && !APART.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && written {
                let short = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                // What is no text (a figure, a lock of somebody's editor) has no rule here.
                files.extend(std::fs::read_to_string(&path).ok().map(|text| File { path: short, text }));
            }
        }
    }
    assert!(files.iter().filter(|file| file.is_rust()).count() > 80, "the workspace was not found");
    files
}

/// No file of the workspace breaks the rule, and each planted one does.
fn check(rule: impl Fn(&File) -> Vec<String>, planted: &[(&str, &str)]) {
    for (path, text) in planted {
        assert!(!rule(&File::new(path, text)).is_empty(), "the rule overlooks `{text}` in {path}");
    }
    let offences: Vec<String> = files().iter().flat_map(&rule).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// Where each heavy crate may be named. A room of its own keeps it replaceable, and its types out of everybody's way.
const PLACES: &[(&str, &[&str])] = &[
    ("libp2p", &["node/src/net/"]),
    // The program installs its provider before anything else runs; the network does so for whoever uses the library.
    ("rustls", &["node/src/net/", "node/src/tls.rs", "node/src/cli.rs"]),
    ("sled", &["node/src/store/", "node/src/bench/baseline.rs"]),
    ("axum", &["node/src/api.rs", "node/src/api/"]),
    ("askama", &["node/src/api/"]),
    ("ureq", &["node/src/api/client.rs"]),
    ("serde_cbor", &["schema/src/codec.rs"]),
    ("clap", &["node/src/cli.rs", "node/src/cli/", "node/src/demo.rs", "node/src/bench.rs"]),
    ("age", &["node/src/keys/kit.rs", "node/src/cli/backup.rs"]),
    ("qrcode", &["node/src/keys/kit.rs"]),
    ("encoding_rs", &["node/src/import/"]),
    ("tar", &["node/src/cli/backup.rs"]),
    ("indicatif", &["node/src/desk.rs", "node/src/cli/", "node/src/demo.rs", "node/src/bench.rs"]),
    ("tracing_subscriber", &["node/src/telemetry.rs", "node/src/cli/run.rs", "integration/"]),
    ("futures", &["node/src/net/"]),
    ("if_watch", &["node/src/net/moves.rs"]),
];

/// Whether code names a crate: `name::`, or `use name` as a whole. `crate::name`, `self::name` and longer words are others.
fn names(code: &str, krate: &str) -> bool {
    code.match_indices(krate).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + krate.len()..]);
        let apart = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
        // `::name` is the crate itself only at the start of a path.
        let outer = before.strip_suffix("::").is_none_or(|path| !path.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>')));
        let used = before.trim_end().ends_with("use") && after.starts_with([';', ' ']);
        apart && outer && (after.starts_with("::") || used)
    })
}

fn heavy_names(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    // Modules of ours may share a crate's name: inside their parent `age::` would be the module.
    let module = |krate: &str| file.text.contains(&format!("mod {krate};"));
    let foreign = PLACES.iter().filter(|(krate, places)| !file.is_in(places) && !module(krate));
    foreign.flat_map(|(krate, _)| lines_with(file, krate, |code| names(code, krate))).collect()
}

fn lines_with<'a>(file: &'a File, what: &'a str, found: impl Fn(&str) -> bool + 'a) -> Vec<String> {
    let lines = file.code().filter(|(_, code)| found(code));
    lines.map(|(line, _)| format!("{}:{line}: {what}", file.path)).collect()
}

#[test]
fn each_heavy_crate_is_named_under_one_room() {
    check(
        heavy_names,
        &[
            ("node/src/feeds.rs", "use libp2p::PeerId;"),
            ("node/src/links.rs", "fn a(x: ::libp2p::PeerId) {}"),
            ("node/src/feeds.rs", "    let db = sled::open(path)?;"),
            ("node/src/cli/run.rs", "use axum;"),
            ("node/src/exchange/message.rs", "let v: serde_cbor::Value = x;"),
            ("node/src/config.rs", "#[derive(clap::Args)]"),
            ("policy/src/clear.rs", "use age::Encryptor as _;"),
        ],
    );
    let innocent = "use crate::net::libp2p::x;\n// libp2p::PeerId\nlet a = \"sled::open\";\nlet b = page::render();\nuse super::sled::y;";
    assert_eq!(heavy_names(&File::new("node/src/desk.rs", innocent)), Vec::<String>::new());
}

/// Which crates a manifest takes for its own code, not for tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && !section.contains("dev-") && !section.starts_with("[workspace") {
            found.extend(line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned));
        }
    }
    found
}

fn tests_only(file: &File) -> Vec<String> {
    const TESTS_ONLY: [&str; 6] = ["csv", "proptest", "coset", "ct-merkle", "cedar-policy", "trycmd"];
    if !file.path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let taken = dependencies(&file.text).into_iter().filter(|name| TESTS_ONLY.contains(&name.as_str()));
    taken.map(|name| format!("{}: {name} is for tests only", file.path)).collect()
}

#[test]
fn test_crates_are_taken_by_tests_alone() {
    check(
        tests_only,
        &[("node/Cargo.toml", "[dependencies]\ncsv.workspace = true"), ("schema/Cargo.toml", "[dependencies]\ncoset = \"0.4\"")],
    );
    let innocent = "[workspace.dependencies]\ncsv = \"1\"\n[dev-dependencies]\ncsv.workspace = true\n[dependencies]\ncsv2 = \"1\"";
    assert_eq!(tests_only(&File::new("node/Cargo.toml", innocent)), Vec::<String>::new());
}

/// The core knows the store and the keys it signs with, and no other edge; the protocol knows not even those.
fn core_names_edge(file: &File) -> Vec<String> {
    const EDGES: [&str; 13] =
        ["net", "api", "links", "cli", "service", "desk", "import", "config", "platform", "demo", "bench", "answer", "invitation"];
    const STORED: [&str; 2] = ["store", "keys"];
    let feeds = file.is_in(&["node/src/feeds.rs", "node/src/feeds/", "node/src/ledger.rs"]);
    let exchange = file.is_in(&["node/src/exchange.rs", "node/src/exchange/"]);
    if !feeds && !exchange {
        return Vec::new();
    }
    let forbidden = EDGES.iter().chain(if exchange { &STORED[..] } else { &[] });
    let named = |code: &str, edge: &str| code.contains(&format!("crate::{edge}::")) || code.contains(&format!("crate::{edge};"));
    forbidden.flat_map(|edge| lines_with(file, edge, |code| named(code, edge))).collect()
}

#[test]
fn the_core_names_no_edge_but_the_store() {
    check(
        core_names_edge,
        &[
            ("node/src/feeds/accept.rs", "use crate::net::PeerId;"),
            ("node/src/feeds.rs", "use crate::service;"),
            ("node/src/exchange/send.rs", "use crate::store::Reader;"),
            ("node/src/ledger.rs", "    crate::platform::write_file(path, b\"\")?;"),
        ],
    );
}

/// Neither I/O nor clock nor threads of execution that somebody else wakes. Threads that end before their function
/// returns are computing, not waiting: a bundle is verified on all cores.
fn impure(file: &File) -> Vec<String> {
    const IMPURE: [&str; 12] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::time",
        "std::thread",
        "SystemTime",
        "Instant",
        "tokio",
        "async fn",
        ".await",
        "getrandom",
    ];
    let pure = file.is_in(&["schema/src/", "policy/src/"]) && file.is_rust();
    let words = IMPURE.iter().filter(|_| pure);
    let scoped = |code: &str| code.contains("std::thread::scope(") || code.contains("std::thread::available_parallelism");
    words.flat_map(|word| lines_with(file, word, |code| code.contains(word) && !scoped(code))).collect()
}

#[test]
fn schema_and_policy_have_no_files_no_clock_and_no_async() {
    check(
        impure,
        &[
            ("schema/src/verify.rs", "let text = std::fs::read(path)?;"),
            ("schema/src/verify.rs", "std::thread::sleep(a_while);"),
            ("policy/src/decide.rs", "use std::time::SystemTime;"),
            ("schema/src/slot.rs", "pub async fn open() {}"),
            ("policy/src/clear.rs", "let now = Instant::now();"),
        ],
    );
}

fn unfinished(file: &File) -> Vec<String> {
    // In two parts, so that this file does not hold what it looks for.
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("#[ig", "nore]")];
    let looked = marks.iter().filter(|_| file.is_rust());
    looked.flat_map(|mark| lines_with(file, mark, |code| code.contains(mark))).collect()
}

#[test]
fn nothing_is_left_undone_and_no_test_is_ignored_without_a_reason() {
    let planted = [concat!("to", "do!()"), concat!("#[ig", "nore]"), concat!("db", "g!(x)")];
    check(unfinished, &planted.map(|text| ("node/src/feeds.rs", text)));
    let reasoned = concat!("#[ig", "nore = \"needs root\"]");
    assert_eq!(unfinished(&File::new("node/src/feeds.rs", reasoned)), Vec::<String>::new());
}

fn unopened(file: &File) -> Vec<String> {
    let opened = !file.is_rust() || file.text.starts_with("//! ");
    (!opened).then(|| format!("{}: opens without `//!`", file.path)).into_iter().collect()
}

#[test]
fn every_file_says_first_what_it_is_for() {
    check(unopened, &[("node/src/a.rs", "use std::fs;"), ("node/src/b.rs", "// a comment\n//! too late")]);
}

/// Folders of the machine something was written on.
fn machine_paths(file: &File) -> Vec<String> {
    let folders = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("C:\\Us", "ers")];
    // Behind a host name it is an address, and behind a folder's name a folder of the project.
    let path = |line: &str, folder: &str| {
        line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || ".}-_$".contains(c)))
    };
    let lines = file.text.lines().enumerate();
    let found = lines.filter_map(|(at, line)| folders.iter().find(|folder| path(line, folder)).map(|folder| (at + 1, folder)));
    found.map(|(line, folder)| format!("{}:{line}: {folder}", file.path)).collect()
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    check(
        machine_paths,
        &[("docs/a.md", concat!("see /ho", "me/anna/lotline")), ("node/src/a.rs", concat!("let p = \"/wo", "rk/main\";"))],
    );
    assert_eq!(machine_paths(&File::new("docs/a.md", "https://example.com/home/x and work/main")), Vec::<String>::new());
}
