//! The faults of one file: all of them, up to a number a person can work through.

use lotline_schema::draft::{Fault, Faults, Place};

use super::ImportError;

/// More are counted, not listed.
const FAULTS_MAX: usize = 200;

/// Faults found so far.
#[derive(Default)]
pub(super) struct Found {
    listed: Vec<Fault>,
    more: usize,
}

impl Found {
    /// Adds one.
    pub(super) fn push(&mut self, fault: Fault) {
        if self.listed.len() < FAULTS_MAX {
            self.listed.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// Fine if there are none.
    pub(super) fn none(mut self) -> Result<(), ImportError> {
        if self.listed.is_empty() {
            return Ok(());
        }
        self.listed.sort_by_key(|fault| fault.place);
        if self.more > 0 {
            self.listed.push(Fault::new("file", format!("and {} more", self.more)));
        }
        Err(ImportError::Faults(Faults(self.listed)))
    }
}

/// A place in the file; columns are counted from 0 inside.
pub(super) fn place(row: u64, column: Option<usize>) -> Place {
    Place { row, column: column.and_then(|column| u32::try_from(column + 1).ok()) }
}
