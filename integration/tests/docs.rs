//! Documents against the program: every command line parses, every field, exit code, variable and version named is the
//! real one, every link leads somewhere, every example of a rule file is read as the page says.
//!
//! What a command prints is not compared here; the transcripts under `docs/commands` are for that.

#![allow(clippy::unwrap_used, reason = "a test, also outside the test functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lotline_node::cli;
use lotline_node::config::Home;
use lotline_node::import::Map;
use lotline_node::keys::{Founding, Keys};
use lotline_policy::{MemberList, Slips, World};
use lotline_schema::Hash;
use lotline_schema::verify::Outcome;

/// Inline code that begins like a command and is none.
const NOT_COMMANDS: [&str; 1] = ["lotline vectors 1"];
/// 2026-11-23.
const NOW: i64 = 1_795_392_000;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every page for people, by its path in the project.
fn pages() -> Vec<(String, String)> {
    let mut paths: Vec<String> =
        ["README.md", "CHANGELOG.md", "docker/README.md", "docker/trust/README.md", "keys-example/README.md"].map(String::from).into();
    for entry in std::fs::read_dir(project().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// A fenced block: what stands behind the fence, the line it begins on, and its lines.
struct Block {
    language: String,
    line: usize,
    text: String,
}

/// The blocks of a page, and the page without them (lines stay where they were).
fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose, mut open) = (Vec::new(), String::new(), None::<Block>);
    for (at, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some(Block { language: language.into(), line: at + 2, text: String::new() }),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => prose.push_str(line),
        }
        prose.push('\n');
    }
    assert!(open.is_none(), "a block is not closed");
    (blocks, prose)
}

/// Words of a shell line up to the first operator or remark; quotes are taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
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

/// The call of our program in a command line, if there is one.
fn call(line: &str) -> Option<Vec<String>> {
    let words = words(line);
    let at = match words.first()?.as_str() {
        "lotline" => 0,
        "cargo" if words.get(1).is_some_and(|word| word == "run") => words.iter().position(|word| word == "--")?,
        "docker" if words.iter().any(|word| word == "exec" || word == "run") => words.iter().position(|word| word == "lotline")?,
        _ => return None,
    };
    Some(std::iter::once("lotline".into()).chain(words[at + 1..].iter().cloned()).collect())
}

/// Lines of a block that somebody would type.
fn typed(block: &Block) -> Vec<(usize, &str)> {
    let lines = block.text.lines().enumerate().map(|(at, line)| (block.line + at, line));
    match block.language.as_str() {
        "sh" => lines.collect(),
        "console" => lines.filter_map(|(at, line)| Some((at, line.strip_prefix("$ ")?))).collect(),
        _ => Vec::new(),
    }
}

fn parses(call: &[String]) -> Result<(), String> {
    match cli::command().try_get_matches_from(call) {
        Ok(_) => Ok(()),
        Err(why) if !why.use_stderr() => Ok(()),
        Err(why) => Err(why.to_string()),
    }
}

/// Code spans of a line, in backticks.
fn spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Commands in running text leave things out: what they do name must exist.
fn mention_exists(span: &str) -> Result<(), String> {
    let mut command = cli::command();
    command.build();
    let mut at = &command;
    for word in words(span).iter().skip(1) {
        let flag = word.trim_start_matches('-').split('=').next().unwrap();
        if let Some(sub) = at.find_subcommand(word) {
            at = sub;
        } else if word.starts_with("--") {
            let known =
                at.get_arguments().any(|arg| arg.get_long() == Some(flag) || arg.get_all_aliases().is_some_and(|all| all.contains(&flag)))
                    || ["help", "version"].contains(&flag);
            known.then_some(()).ok_or(format!("no flag `{word}`"))?;
        } else if word.starts_with('-') {
            let known = at.get_arguments().any(|arg| arg.get_short() == flag.chars().next());
            known.then_some(()).ok_or(format!("no flag `{word}`"))?;
        } else if at.has_subcommands() && at.get_positionals().next().is_none() && word.chars().all(|c| c.is_ascii_lowercase()) {
            // The value of `--home` before the verb is no verb.
            let value = words(span).iter().skip_while(|before| *before != "--home").nth(1) == Some(word);
            value.then_some(()).ok_or(format!("no command `{word}`"))?;
        }
    }
    Ok(())
}

#[test]
fn every_command_line_parses() {
    let (mut wrong, mut blocks_seen, mut spans_seen) = (Vec::new(), 0, 0);
    for (path, text) in pages() {
        let (blocks, prose) = split(&text);
        for (line, typed) in blocks.iter().flat_map(typed) {
            if let Some(call) = call(typed) {
                blocks_seen += 1;
                wrong.extend(parses(&call).err().map(|why| format!("{path}:{line}: {typed}\n{why}")));
            }
        }
        for span in spans(&prose).filter(|span| span.starts_with("lotline ") && !NOT_COMMANDS.contains(span)) {
            spans_seen += 1;
            wrong.extend(mention_exists(span).err().map(|why| format!("{path}: `{span}`: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(blocks_seen > 40 && spans_seen > 40, "only {blocks_seen} command lines and {spans_seen} mentions were found");
}

#[test]
fn a_wrong_command_line_is_noticed() {
    let line = |text: &str| parses(&call(text).unwrap());
    assert!(line("lotline verify x.lotline --trust t.toml   # a remark").is_ok());
    assert!(line("docker compose exec supplier lotline policy apply \"a b.toml\" --yes").is_ok());
    assert!(line("lotline verify --trsut t.toml x.lotline").is_err());
    assert!(line("lotline polcy apply").is_err());
    assert!(mention_exists("lotline publish … --to NAME").is_ok());
    assert!(mention_exists("lotline publish … --tp NAME").is_err());
    assert!(mention_exists("lotline share halt").is_err());
}

#[test]
fn the_readme_gives_exactly_two_commands_to_try() {
    let text = read("README.md");
    let (_, from) = text.split_once("\n## Try it\n").unwrap();
    let (blocks, _) = split(from.split("\n## ").next().unwrap());
    let lines: Vec<&str> = blocks.iter().flat_map(|block| block.text.lines()).collect();
    assert_eq!(lines, ["cargo run --release -- demo", "cargo test --workspace"]);
}

/// As the pages of a forge make an anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        let folder = project().join(&path).parent().unwrap().to_path_buf();
        let (_, prose) = split(&text);
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let (file, at) = target.split_once('#').map_or((target, None), |(file, at)| (file, Some(at)));
            let file = if file.is_empty() { project().join(&path) } else { folder.join(file) };
            if !file.exists() {
                wrong.push(format!("{path}: {target}"));
                continue;
            }
            if let Some(at) = at {
                let (_, prose) = split(&std::fs::read_to_string(&file).unwrap());
                let headings = prose.lines().filter_map(|line| line.strip_prefix('#')).map(|line| anchor(line.trim_start_matches('#')));
                if !headings.into_iter().any(|heading| heading == at) {
                    wrong.push(format!("{path}: {target}: no such heading"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Cells of the table between `<!-- name -->` and `<!-- end -->`, without head and backticks.
fn table(page: &str, name: &str) -> Vec<Vec<String>> {
    let (_, from) = page.split_once(&format!("<!-- {name} -->\n")).unwrap_or_else(|| panic!("no table `{name}`"));
    let lines = from.split("<!-- end -->").next().unwrap().lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

fn first_cells(page: &str, name: &str) -> Vec<String> {
    table(page, name).into_iter().map(|row| row[0].clone()).collect()
}

#[test]
fn the_configuration_is_described_field_by_field() {
    let source = read("node/src/config.rs");
    let body = source.split("pub struct Config {").nth(1).unwrap().split("\n}").next().unwrap();
    let fields: Vec<&str> = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next()).collect();
    let page = read("docs/operating.md");
    assert_eq!(first_cells(&page, "config"), fields);
    let (blocks, _) = split(&page);
    let example = blocks.iter().find(|block| block.language == "toml config").unwrap();
    for field in fields {
        let has = |line: &str| line.split([' ', '.']).next() == Some(field);
        assert!(example.text.lines().any(has), "the example lacks `{field}`");
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("lotline.toml"), &example.text).unwrap();
    Home::at(Some(home.path())).unwrap().config().unwrap();
}

#[test]
fn the_example_of_a_map_file_is_read() {
    let (blocks, _) = split(&read("docs/operating.md"));
    let maps: Vec<_> = blocks.iter().filter(|block| block.language == "toml map").collect();
    assert!(!maps.is_empty());
    maps.iter().for_each(|map| drop(map.text.parse::<Map>().unwrap_or_else(|why| panic!("{why}"))));
}

#[test]
fn every_exit_code_is_in_the_table_and_no_other() {
    let source = read("node/src/answer.rs");
    let module = source.split("pub mod exit {").nth(1).unwrap().split("\n}").next().unwrap();
    let constants =
        module.lines().filter(|line| line.contains("pub const")).map(|line| line.split("= ").nth(1).unwrap().trim_end_matches(';'));
    let outcomes = [
        Outcome::Verified,
        Outcome::Altered,
        Outcome::SignerNotEstablished,
        Outcome::Revoked,
        Outcome::Withdrawn,
        Outcome::Incomplete,
        Outcome::Forked,
        Outcome::Unreadable,
    ];
    let mut codes: BTreeSet<u8> = constants.map(|code| code.parse().unwrap()).collect();
    codes.extend(outcomes.map(Outcome::exit_code));
    let page = first_cells(&read("docs/operating.md"), "exit codes");
    assert_eq!(page.iter().map(|code| code.parse().unwrap()).collect::<BTreeSet<u8>>(), codes);
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Events of the audit log stand in the sources as `event = "…"`, or as what a connection's event is called.
#[test]
fn every_event_of_the_audit_log_is_in_the_table_and_no_other() {
    let mut found = Vec::new();
    sources(&project().join("node/src"), &mut found);
    let mut named = BTreeSet::new();
    for source in &found {
        for mark in ["event = \"", "self.note(peer, \""] {
            let after = source.split(mark).skip(1);
            named.extend(after.filter_map(|after| after.split_once('"')).map(|(event, _)| event.to_owned()));
        }
    }
    let told: BTreeSet<String> = first_cells(&read("docs/operating.md"), "events")
        .iter()
        .flat_map(|cell| cell.split(", "))
        .map(|event| event.trim_matches('`').to_owned())
        .collect();
    assert!(told.len() > 8);
    assert_eq!(named, told);
}

#[test]
fn every_environment_variable_is_in_the_table_and_no_other() {
    let mut texts = Vec::new();
    for crate_folder in ["schema", "policy", "node"] {
        sources(&project().join(crate_folder).join("src"), &mut texts);
    }
    let mut named = BTreeSet::from(["SSLKEYLOGFILE".to_owned()]);
    for rest in texts.iter().flat_map(|text| text.split("LOTLINE_").skip(1)) {
        let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        named.insert(format!("LOTLINE_{name}"));
    }
    assert_eq!(first_cells(&read("docs/operating.md"), "environment").into_iter().collect::<BTreeSet<_>>(), named);
}

#[test]
fn every_alarm_of_status_is_explained() {
    let (source, page) = (read("node/src/cli/status.rs"), read("docs/operating.md"));
    let literals = source.split('"').skip(1).step_by(2);
    let shouted = literals.flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic())).filter(|word| word.len() > 4);
    let shouted: BTreeSet<&str> = shouted.filter(|word| word.chars().all(|c| c.is_ascii_uppercase())).collect();
    assert!(shouted.contains("FROZEN"), "{shouted:?}");
    for word in shouted {
        assert!(page.contains(word), "docs/operating.md does not say what to do about `{word}`");
    }
}

fn policy(text: &str) -> Result<(), Slips> {
    let partners = ["oem-a", "oem-b", "rival"].map(String::from);
    let vdz = MemberList { hash: Hash([0; 32]), until: NOW + 86_400, partners: BTreeSet::from(["oem-a".into()]) };
    let lots = BTreeSet::from(["L-2026-11".into()]);
    let lists = BTreeMap::from([("vdz".into(), vdz)]);
    let world = World {
        partners: &partners,
        feeds: &["quality".into()],
        parts: &BTreeSet::from(["P-4711".into()]),
        lots: &lots,
        lists: &lists,
        now: NOW,
    };
    lotline_policy::parse(text, &world).map(drop)
}

#[test]
fn examples_of_rules_are_read_and_slips_answered_as_the_page_says() {
    let (mut good, mut bad) = (0, 0);
    for path in ["README.md", "docs/policy.md"] {
        let (blocks, _) = split(&read(path));
        for (at, block) in blocks.iter().enumerate() {
            let place = format!("{path}:{}", block.line);
            match block.language.as_str() {
                "toml" => {
                    good += 1;
                    policy(&block.text).unwrap_or_else(|slips| panic!("{place}:\n{slips}"));
                }
                "toml refused" => {
                    bad += 1;
                    let slips = policy(&block.text).expect_err(&place).to_string();
                    assert_eq!(blocks.get(at + 1).map(|answer| answer.text.trim_end()), Some(slips.as_str()), "{place}");
                }
                _ => {}
            }
        }
    }
    assert!(good > 2 && bad > 1);
}

/// Keys of a `[dependencies]` table.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if let Some((name, _)) = line.split_once(['.', ' ', '=']).filter(|_| inside && !line.starts_with('#')) {
            found.push(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn the_table_of_dependencies_is_that_of_the_lock_file() {
    let rows = table(&read("docs/design.md"), "dependencies");
    let lock = read("Cargo.lock");
    let mut described = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        // What stands in brackets is another name or the way it came.
        let plain = |cell: &str| cell.split(" (").next().unwrap().to_owned();
        let names: Vec<String> = plain(&row[0]).split(", ").map(String::from).collect();
        let versions: Vec<&str> = row[1].split(", ").filter(|version| *version != "exact").collect();
        assert_eq!(names.len(), versions.len(), "{row:?}");
        for (name, version) in names.iter().zip(versions) {
            let entry = format!("name = \"{name}\"\nversion = \"{version}");
            assert!(lock.contains(&entry), "Cargo.lock has no {name} {version}");
        }
        described.extend(names);
        described.extend(row[0].split(" (as ").nth(1).map(|name| name.trim_end_matches(')').to_owned()));
    }
    for manifest in ["schema/Cargo.toml", "policy/Cargo.toml", "node/Cargo.toml"] {
        for name in dependencies(&read(manifest)).into_iter().filter(|name| !name.starts_with("lotline-")) {
            assert!(described.contains(&name), "docs/design.md does not say why `{name}` of {manifest} was chosen");
        }
    }
}

#[test]
fn example_identities_are_the_ones_described() {
    let page = read("keys-example/README.md");
    for name in ["supplier", "oem-a", "oem-b"] {
        let founding = Founding::example(name).unwrap();
        let row = format!("| `{name}` | `{}` | {} |", founding.party(), founding.party().six_words());
        assert!(page.contains(&row), "keys-example/README.md lacks\n{row}");
        let folder = tempfile::tempdir().unwrap();
        founding.write(folder.path()).unwrap();
        assert!(Keys::read(folder.path()).unwrap().are_examples(), "`{name}` is not known as an example");
    }
}
