//! The container files against the program and the project: every path, flag and command they name exists, and what
//! they promise (own user, read-only root, no port, no network for the auditor) is what they say.
//!
//! No engine runs here. The readers below know only the few forms that these files use, and refuse any other.

#![allow(clippy::unwrap_used, reason = "a test, also outside the test functions")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lotline_node::cli;
use lotline_policy::World;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Holds a call, its first word being the program, against the command line.
fn check_call(place: &str, call: &[String]) {
    assert_eq!(call.first().map(String::as_str), Some("lotline"), "{place}: {call:?}");
    if let Err(why) = cli::command().try_get_matches_from(call) {
        panic!("{place}: {}\n{why}", call.join(" "));
    }
}

/// `["a", "b"]`.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

// The image.

/// Instructions with their arguments; lines that end in a backslash go on.
fn instructions() -> Vec<(String, String)> {
    let text = read("docker/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).collect()
}

fn arguments(word: &str) -> Vec<String> {
    instructions().into_iter().filter(|(known, _)| known == word).map(|(_, rest)| rest).collect()
}

/// Files that the image holds besides the distribution's: where each comes to lie.
fn files_in_image() -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for copy in arguments("COPY").into_iter().rev().take_while(|copy| !copy.ends_with("./integration")) {
        let mut parts: Vec<&str> = copy.split_whitespace().filter(|part| !part.starts_with("--")).collect();
        let target = parts.pop().unwrap();
        for part in parts {
            let name = part.rsplit('/').next().unwrap();
            files.insert(if target.ends_with('/') { format!("{target}{name}") } else { target.to_owned() });
        }
    }
    files
}

#[test]
fn the_image_is_built_from_what_is_there_and_runs_as_its_own_user() {
    const KNOWN: [&str; 8] = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "ENTRYPOINT", "CMD"];
    instructions().iter().for_each(|(word, _)| assert!(KNOWN.contains(&word.as_str()), "`{word}` is not known here"));
    assert_eq!(arguments("FROM").len(), 2, "two stages");

    let (mut copied, ignore) = (BTreeSet::new(), read("docker/Dockerfile.dockerignore"));
    for copy in arguments("COPY") {
        let parts: Vec<&str> = copy.split_whitespace().collect();
        if let Some(stage) = parts[0].strip_prefix("--from=") {
            assert!(arguments("FROM").iter().any(|from| from.ends_with(&format!(" AS {stage}"))));
            assert_eq!(parts[1], "/src/target/release/lotline");
            continue;
        }
        for source in &parts[..parts.len() - 1] {
            assert!(project().join(source).exists(), "COPY {source}: no such file");
            assert!(ignore.lines().any(|line| line == format!("!{source}")), "{source} is left out by Dockerfile.dockerignore");
            copied.insert((*source).to_owned());
        }
    }
    // All members of the workspace, or cargo refuses to begin.
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    list(members).iter().for_each(|member| assert!(copied.contains(member), "`{member}` is not copied"));

    let build = arguments("RUN").into_iter().find(|run| run.starts_with("cargo build")).unwrap();
    assert!(build.contains("--release") && build.contains("--locked"), "{build}");
    let words: Vec<&str> = build.split_whitespace().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    let manifest = read("node/Cargo.toml");
    assert!(manifest.contains(&format!("name = \"{}\"", after("--package"))));
    assert!(manifest.contains(&format!("[[bin]]\nname = \"{}\"", after("--bin"))));

    let user = arguments("USER").pop().unwrap();
    assert!(!["0", "root"].contains(&user.split(':').next().unwrap()), "USER {user}");
    let run = arguments("RUN").pop().unwrap();
    assert!(run.contains(&format!("--uid {}", user.split(':').next().unwrap())), "USER {user} is not made");
    let start: Vec<String> = ["ENTRYPOINT", "CMD"].iter().flat_map(|word| list(&arguments(word).pop().unwrap())).collect();
    check_call("docker/Dockerfile", &start);
}

// Three containers.

/// Leaves of a YAML file, each with the keys that lead to it; items of a list share their path.
fn leaves(text: &str) -> Vec<(String, String)> {
    let (mut leaves, mut path): (Vec<_>, Vec<(usize, &str)>) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        assert!(!line.contains(['\t', '&', '*', '|', '>']), "`{line}`: this reader knows no such form");
        while path.last().is_some_and(|(before, _)| *before >= indent) {
            path.pop();
        }
        let keys = |path: &[(usize, &str)]| path.iter().map(|(_, key)| *key).collect::<Vec<_>>().join("/");
        if let Some(item) = line.strip_prefix("- ") {
            leaves.push((keys(&path), unquoted(item)));
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is no key"));
        path.push((indent, key));
        match value.trim() {
            "" => {}
            "{}" => leaves.push((keys(&path), String::new())),
            value if value.starts_with('[') => leaves.extend(list(value).into_iter().map(|item| (keys(&path), item))),
            value => leaves.push((keys(&path), unquoted(value))),
        }
    }
    leaves
}

fn unquoted(text: &str) -> String {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
}

struct Compose(Vec<(String, String)>);

impl Compose {
    fn read() -> Compose {
        Compose(leaves(&read("docker/compose.yaml")))
    }

    fn all(&self, path: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == path).map(|(_, value)| value.as_str()).collect()
    }

    fn keys_below(&self, path: &str) -> BTreeSet<&str> {
        let prefix = format!("{path}/");
        self.0.iter().filter_map(|(known, _)| known.strip_prefix(&prefix)?.split('/').next()).collect()
    }
}

const SERVICES: [&str; 3] = ["auditor", "oem", "supplier"];

#[test]
fn the_services_are_built_from_what_is_there_and_confined() {
    let compose = Compose::read();
    assert_eq!(compose.keys_below("services"), BTreeSet::from(SERVICES));
    for service in SERVICES {
        let of = |key: &str| compose.all(&format!("services/{service}/{key}"));
        let context = project().join("docker").join(of("build/context")[0]);
        assert!(context.join(of("build/dockerfile")[0]).exists(), "{service}: no such Dockerfile");
        assert_eq!(of("read_only"), ["true"], "{service}");
        assert_eq!(of("cap_drop"), ["ALL"], "{service}");
        assert_eq!(of("security_opt"), ["no-new-privileges:true"], "{service}");
        assert_eq!(of("tmpfs"), ["/tmp"], "{service}");
        assert!(of("ports").is_empty() && of("privileged").is_empty() && of("user").is_empty(), "{service}");
        let entry = of("entrypoint");
        assert_eq!(entry[0], "/bin/sh");
        assert!(files_in_image().contains(entry[1]), "{service}: the image has no {}", entry[1]);
    }
    for node in ["supplier", "oem"] {
        // Under another host name a node takes itself for a restored one.
        assert_eq!(compose.all(&format!("services/{node}/hostname")), [node]);
        let test = compose.all(&format!("services/{node}/healthcheck/test"));
        assert_eq!(test[0], "CMD");
        check_call(node, &test[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(
            compose
                .all(&format!("services/{node}/networks"))
                .iter()
                .all(|name| compose.all(&format!("networks/{name}/internal")) == ["true"])
        );
    }
    assert_eq!(compose.all("services/auditor/network_mode"), ["none"]);
}

/// What a service finds at which path, and from where.
fn mounts(compose: &Compose, service: &str) -> Vec<(String, String)> {
    let volumes = compose.all(&format!("services/{service}/volumes")).into_iter().map(|volume| {
        let mut parts = volume.split(':');
        (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
    });
    let secrets = compose.all(&format!("services/{service}/secrets"));
    volumes.chain(secrets.into_iter().map(|name| (format!("secret {name}"), format!("/run/secrets/{name}")))).collect()
}

#[test]
fn every_mount_comes_from_somewhere() {
    let compose = Compose::read();
    let declared = compose.keys_below("volumes");
    for (service, (source, _)) in
        SERVICES.iter().flat_map(|service| mounts(&compose, service).into_iter().map(move |mount| (service, mount)))
    {
        if let Some(name) = source.strip_prefix("secret ") {
            // The user writes this one; the walk-through says how, and git leaves it alone.
            let file = compose.all(&format!("secrets/{name}/file"))[0].trim_start_matches("./");
            assert!(read("docker/README.md").contains(&format!("> docker/{file}")), "{service}: nobody says how to write {file}");
            assert!(read("docker/.gitignore").lines().any(|line| line == file));
        } else if source.starts_with('.') {
            assert!(project().join("docker").join(&source).exists(), "{service}: there is no {source}");
        } else {
            assert!(declared.contains(source.as_str()), "{service}: the volume {source} is not declared");
        }
    }
}

// The scripts.

/// Words of a shell line, with quotes taken off and variables put in as they stand.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut depth = 0;
    for letter in line.chars() {
        match (quote, letter) {
            // Inside `$( … )` quotes begin anew; what stands there is one value to us.
            (_, '(') => depth += 1,
            (_, ')') => depth -= 1,
            _ if depth > 0 => {}
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '|' | '&' | ';' | '>' | '<') => break,
            (None, '#') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn script(name: &str) -> Vec<(usize, String)> {
    let text = read(&format!("docker/{name}"));
    assert!(text.starts_with("#!/bin/sh\n"), "{name}");
    text.lines().enumerate().map(|(at, line)| (at + 1, line.trim().to_owned())).filter(|(_, line)| !line.starts_with('#')).collect()
}

#[test]
fn every_call_in_the_scripts_parses() {
    let mut calls = 0;
    for name in ["node.sh", "auditor.sh"] {
        // `set -- …` collects arguments for the `"$@"` of a call further down.
        let mut collected: Vec<String> = Vec::new();
        for (at, line) in script(name) {
            let mut words = words(&line);
            if words.starts_with(&["set".into(), "--".into()]) {
                let before = std::mem::take(&mut collected);
                collected = words.drain(2..).flat_map(|word| if word == "$@" { before.clone() } else { vec![word] }).collect();
            } else if let Some(from) =
                words.iter().position(|word| word == "lotline").filter(|from| *from == 0 || words[from - 1] == "exec")
            {
                let call = words.drain(from..).flat_map(|word| if word == "$@" { collected.clone() } else { vec![word] });
                check_call(&format!("docker/{name}:{at}"), &call.collect::<Vec<_>>());
                calls += 1;
            }
        }
    }
    assert_eq!(calls, 6, "the scripts' calls were not all found");
}

#[test]
fn scripts_name_only_paths_that_their_service_has_and_variables_that_it_sets() {
    let compose = Compose::read();
    for service in SERVICES {
        let name = compose.all(&format!("services/{service}/entrypoint"))[1].rsplit('/').next().unwrap();
        let mut known: Vec<String> = mounts(&compose, service).into_iter().map(|(_, target)| target).collect();
        known.push("/tmp".into());
        let mut set: BTreeSet<String> =
            compose.keys_below(&format!("services/{service}/environment")).into_iter().map(String::from).collect();
        set.extend(arguments("ENV").iter().filter_map(|env| Some(env.split_once('=')?.0.to_owned())));
        for (at, line) in script(name) {
            for assigned in [line.strip_prefix("for ").and_then(|rest| rest.split(' ').next()), line.split_once('=').map(|(name, _)| name)]
            {
                set.extend(assigned.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric())).map(String::from));
            }
            for path in line.split([' ', '"', '>', '(', ')', ';']).filter(|word| word.starts_with('/') && word.len() > 1) {
                let there = known.iter().any(|target| path == target || path.starts_with(&format!("{target}/")));
                assert!(there, "docker/{name}:{at}: {service} has nothing at {path}");
            }
            for rest in line.split('$').skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic())) {
                let variable: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(set.contains(&variable), "docker/{name}:{at}: {service} does not set ${variable}");
            }
        }
        for variable in compose.keys_below(&format!("services/{service}/environment")) {
            assert!(read(&format!("docker/{name}")).contains(&format!("${variable}")), "{service}: nothing reads {variable}");
        }
    }
}

#[cfg(unix)]
#[test]
fn scripts_are_shell() {
    for name in ["node.sh", "auditor.sh"] {
        let status = std::process::Command::new("sh").arg("-n").arg(project().join("docker").join(name)).status().unwrap();
        assert!(status.success(), "{name}");
    }
}

#[test]
fn the_rules_of_the_example_are_in_order() {
    let parts = BTreeSet::new();
    let world = World { partners: &["oem".into()], feeds: &["f-00000000".into()], parts: &parts, now: 1_795_392_000, ..World::default() };
    let policy = lotline_policy::parse(&read("docker/policy.toml"), &world).unwrap_or_else(|slips| panic!("{slips}"));
    assert_eq!((policy.shares().len(), policy.nevers().len()), (1, 1));
    // The customer's name in the rules is the one under which the supplier adds it.
    assert_eq!(Compose::read().all("services/supplier/environment/PARTNERS"), ["oem"]);
}

#[test]
fn the_readers_refuse_what_they_do_not_know() {
    assert_eq!(leaves("a:\n  b: [\"x\", \"y\"]\n  c:\n    - z\nd: {}\n").len(), 4);
    assert!(std::panic::catch_unwind(|| leaves("a: &anchor\n")).is_err());
    let call = words("lotline partner accept \"$(cat \"/shared/$x\")\" --as \"$partner\" # remark");
    assert_eq!(call, ["lotline", "partner", "accept", "$", "--as", "$partner"]);
}
