//! The environment variables that secrets and defaults are looked up in.
//!
//! Invariant: it is a copy, taken once, so that a check and a start with the same environment agree; its values
//! never print.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// A copy of environment variables.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// Why an environment file cannot be used.
#[derive(Debug, Error)]
pub enum EnvironmentError {
    /// It cannot be read.
    #[error("cannot read environment file `{}`: {why}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// A line of it is not `KEY=value`.
    #[error("environment file `{}` is not KEY=value in line {line}: {why}", .file.display())]
    BadLine {
        /// The file.
        file: PathBuf,
        /// The line; the first is 1.
        line: usize,
        /// What is wrong with it. The line itself may hold a secret and is not shown.
        why: &'static str,
    },
}

impl fmt::Debug for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// The variables of this process. One whose name or value is not UTF-8 is left out.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(text).collect() }
    }

    /// The same with one more variable, or another value for it.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same without that variable.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// The same with those of a file of `KEY=value` lines, as systemd's `EnvironmentFile=` reads them: `#` and `;`
    /// begin a comment line, quotes around a value are not part of it. The file wins.
    pub fn with_file(mut self, file: &Path) -> Result<Self, EnvironmentError> {
        let text =
            fs::read_to_string(file).map_err(|why| EnvironmentError::Unreadable { file: file.to_owned(), why })?;
        for (index, line) in text.lines().enumerate() {
            let variable = read_line(line).map_err(|why| EnvironmentError::BadLine {
                file: file.to_owned(),
                line: index + 1,
                why,
            })?;
            self.variables.extend(variable);
        }
        Ok(self)
    }

    /// The value of a variable, if it is set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Where systemd put this service's credentials.
    pub fn credentials_directory(&self) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY").filter(|it| !it.is_empty()).map(PathBuf::from)
    }

    /// Where systemd keeps this service's state; of several folders the first.
    pub fn state_directory(&self) -> Option<PathBuf> {
        let folders = self.variable("STATE_DIRECTORY")?;
        folders.split(':').find(|it| !it.is_empty()).map(PathBuf::from)
    }
}

/// Whether the text can be the name of an environment variable in every shell.
pub(super) fn is_variable_name(text: &str) -> bool {
    let mut characters = text.bytes();
    let begins_well = characters.next().is_some_and(|it| it.is_ascii_alphabetic() || it == b'_');
    begins_well && characters.all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

fn read_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("there is no `=`")?;
    let name = name.trim();
    if !is_variable_name(name) {
        return Err("the name is not one of letters, digits and `_`");
    }
    let value = value.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote).map(|rest| (quote, rest)));
    let value = match unquoted {
        Some((quote, rest)) => rest.strip_suffix(quote).ok_or("the quote is not closed")?,
        None => value,
    };
    Ok(Some((name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Environment, EnvironmentError};

    fn read(text: &str) -> Result<Environment, EnvironmentError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("env");
        fs::write(&file, text).expect("a file");
        Environment::default().with("A", "old").with_file(&file)
    }

    #[test]
    fn a_file_of_lines_wins_over_what_was_there() {
        let found = read("# comment\n; too\n\nexport A=new\nB=\"x y\"\nC='#'\nD=a=b\n").expect("good lines");
        for (name, expect) in [("A", "new"), ("B", "x y"), ("C", "#"), ("D", "a=b")] {
            assert_eq!(found.variable(name), Some(expect), "{name}");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_never_shown() {
        for (text, line) in [("A=1\nhunter2\n", 2), ("hunt-er=2\n", 1), ("A='hunter2\n", 1)] {
            let err = read(text).expect_err(text);
            assert!(err.to_string().contains(&format!("in line {line}")), "{err}");
            assert!(!err.to_string().contains("hunter2"), "{err}");
        }
        assert!(Environment::default().with_file(Path::new("/nonexistent/env")).is_err());
    }

    #[test]
    fn values_never_print() {
        let printed = format!("{:?}", Environment::default().with("TOKEN", "hunter2"));
        assert!(printed.contains("TOKEN") && !printed.contains("hunter2"), "{printed}");
    }
}
