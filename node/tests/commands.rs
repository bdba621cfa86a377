//! The program itself. That this test names it makes cargo build it before the whole-node tests of `integration` run.

use std::process::Command;

#[test]
fn it_says_what_it_is_and_refuses_what_it_does_not_know() {
    let program = env!("CARGO_BIN_EXE_lotline");
    let said = Command::new(program).arg("--version").output().unwrap();
    assert!(said.status.success());
    assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), concat!("lotline ", env!("CARGO_PKG_VERSION")));
    let said = Command::new(program).arg("frobnicate").output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(said.stdout.is_empty() && !said.stderr.is_empty());
}
