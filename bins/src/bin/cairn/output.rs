//! What commands print: tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use bytesize::ByteSize;
use cairn_core::message::FileStatus;
use cairn_core::time::UnixMs;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde_json::{Value, json};

/// How to talk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    /// A line for people on standard output; nothing under `--json` and `--quiet`.
    pub(crate) fn say(self, text: &str) -> Result<()> {
        if !self.json && !self.quiet {
            line(text)?;
        }
        Ok(())
    }

    /// A result: `text` for people (also under `--quiet`), `value` for programs.
    pub(crate) fn result(self, text: &str, value: &Value) -> Result<()> {
        if self.json { line(&value.to_string()) } else { line(text) }
    }

    /// Something that the user should know though all is well; on standard error, nothing under `--quiet`.
    pub(crate) fn note(self, text: &str) -> Result<()> {
        if self.quiet { Ok(()) } else { self.complain(text) }
    }

    /// An error that does not end the command.
    pub(crate) fn complain(self, text: &str) -> Result<()> {
        writeln!(std::io::stderr(), "cairn: {text}")?;
        Ok(())
    }

    /// A progress bar over `total` bytes on a terminal, hidden otherwise. It clears itself when dropped.
    pub(crate) fn progress(self, name: &str, total: Option<u64>) -> ProgressBar {
        if self.json || self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
        };
        let bar = total
            .map_or_else(ProgressBar::new_spinner, ProgressBar::new)
            .with_finish(ProgressFinish::AndClear);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        bar
    }
}

fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(())
}

/// A table without borders; `right` names the columns that hold numbers.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `drwxr-xr-x`.
pub(crate) fn mode(directory: bool, mode: u16) -> String {
    let mut text = String::from(if directory { "d" } else { "-" });
    for shift in [6, 3, 0] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(if bits & 1 != 0 { 'x' } else { '-' });
    }
    if mode & 0o1000 != 0 {
        text.pop();
        text.push(if mode & 1 != 0 { 't' } else { 'T' });
    }
    text
}

/// `2026-11-20 09:30:00` in UTC, by Howard Hinnant's days-to-civil arithmetic
/// (<https://howardhinnant.github.io/date_algorithms.html>).
pub(crate) fn time(at: UnixMs) -> String {
    let seconds = at.0 / 1000;
    let (days, in_day) = ((seconds / 86_400) as i64, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", in_day / 3600, in_day / 60 % 60, in_day % 60)
}

/// A file's or directory's attributes as JSON.
pub(crate) fn status_json(status: &FileStatus) -> Value {
    json!({
        "path": status.path,
        "id": status.id.0,
        "type": if status.directory { "directory" } else { "file" },
        "length": status.length,
        "mode": format!("{:04o}", status.mode),
        "owner": status.owner,
        "group": status.group,
        "modified_ms": status.modified.0,
        "replication": status.replication,
        "chunk_bytes": status.chunk_bytes,
        "extents": status.extents,
        "crc32": if status.directory { Value::Null } else { format!("{:08x}", status.crc).into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        assert_eq!(time(UnixMs(0)), "1970-01-01 00:00:00");
        assert_eq!(time(UnixMs(951_827_696_000)), "2000-02-29 12:34:56");
        assert_eq!(time(UnixMs(1_795_217_400_000)), "2026-11-20 23:30:00");
    }

    #[test]
    fn modes_read_like_ls() {
        assert_eq!(mode(true, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(false, 0o640), "-rw-r-----");
        assert_eq!(mode(true, 0o1770), "drwxrwx--T");
    }
}
