//! The program `lotline`: reads the command line, does it, prints the answer. Data on stdout, the rest on stderr.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lotline_node::cli::main()
}
