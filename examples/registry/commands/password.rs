//! Where a new password comes from: the terminal, standard input or a file, never the command line, which others see.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;

use clap::Args;
use registry_http::auth::{HtpasswdEditor, Password};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Bytes that are read, at most. A password is shorter.
const MOST: u64 = 4096;

/// Where it comes from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password from a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// A new password for `name`, of which it is known that a user can have it.
pub(super) fn get(source: &Source, name: &str) -> Result<Password, Failure> {
    let password = if source.password_stdin {
        read(io::stdin().lock()).map_err(|error| Failure::because("cannot read the password from standard input", &error))?
    } else if let Some(file) = &source.password_file {
        let read = File::open(file).and_then(read);
        read.map_err(|error| Failure::because(format!("cannot read the password from {}", file.display()), &error))?
    } else {
        ask(name)?
    };
    HtpasswdEditor::check(name, &[], Some(&password)).map_err(|error| Failure::because(format!("not a password for {name}"), &error))?;
    Ok(password)
}

/// All of it but the end of its line, which editors and `echo` add.
fn read(from: impl Read) -> io::Result<Password> {
    let mut text = String::new();
    from.take(MOST).read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Password::new(line.strip_suffix('\r').unwrap_or(line)))
}

/// From the terminal, twice.
fn ask(name: &str) -> Result<Password, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::new("there is no terminal to ask for a password on").hint("give it with --password-stdin or --password-file FILE")
        );
    }
    let failed = |error: &io::Error| Failure::because("cannot read the password from the terminal", error);
    let first = prompt(&format!("Password for {name}: ")).map_err(|error| failed(&error))?;
    HtpasswdEditor::check(name, &[], Some(&first)).map_err(|error| Failure::because(format!("not a password for {name}"), &error))?;
    let second = prompt("The same again: ").map_err(|error| failed(&error))?;
    if first == second { Ok(first) } else { Err(Failure::new("these are two passwords").hint("nothing was changed; try again")) }
}

fn prompt(text: &str) -> io::Result<Password> {
    let quiet = Quiet::begin()?;
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes())?;
    err.flush()?;
    let typed = line(io::stdin().lock().bytes());
    drop(quiet);
    // What was typed does not show, its end neither.
    err.write_all(b"\n")?;
    String::from_utf8(typed?).map(Password::new).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The terminal without echo. It hands over each key as it is, Ctrl-C too, which would otherwise end the process and leave the terminal so.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Drain, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The process ends soon; a terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// What is typed until the line ends, with the keys that people correct themselves with.
fn line(bytes: impl Iterator<Item = io::Result<u8>>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for byte in bytes {
        match byte? {
            b'\r' | b'\n' => return Ok(line),
            // Ctrl-C, Ctrl-D and Ctrl-\.
            0x03 | 0x04 | 0x1c => return Err(io::Error::new(io::ErrorKind::Interrupted, "called off")),
            // Backspace: a character, with all its bytes.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            0x15 => line.clear(),
            byte if (line.len() as u64) < MOST => line.push(byte),
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_read_only_the_end_of_the_line_is_left_out() {
        let text = |from: &str| read(from.as_bytes()).unwrap().expose().to_owned();
        for from in [" a b ", " a b \n", " a b \r\n"] {
            assert_eq!(text(from), " a b ");
        }
        assert_eq!(text("a\n\n"), "a\n");
        assert!(read(&b"\xff"[..]).is_err());
        assert_eq!(read(io::repeat(b'a')).unwrap().expose().len(), 4096);
    }

    #[test]
    fn what_is_typed_can_be_corrected_and_called_off() {
        let typed = |keys: &str| line(keys.bytes().map(Ok)).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(typed("secret\rmore").unwrap(), "secret");
        assert_eq!(typed("x\u{15}sec東\u{7f}réé\u{8}\u{8}ret\n").unwrap(), "secrret");
        assert_eq!(typed("\u{7f}\u{7f}a\n").unwrap(), "a");
        for keys in ["sec\u{3}ret\r", "sec\u{4}", "\u{1c}", "secret", ""] {
            assert!(typed(keys).is_err(), "{keys:?}");
        }
    }
}
