//! From the index of a record back to its line in the file, in little memory: lines that give as
//! many records as the one before them share an entry.

/// Irregular files are remembered up to here; beyond it, lines are not named.
const MAX_RUNS: usize = 100_000;

#[derive(Clone, Copy, Debug)]
struct Run {
    first_index: u64,
    first_line: u64,
    records_per_line: u64,
    lines: u64,
}

#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Run>);

impl Rows {
    /// A line gave records from `index` on.
    pub(super) fn add(&mut self, index: u64, line: u64, records: u64) {
        if let Some(run) = self.0.last_mut() {
            let joins = run.records_per_line == records
                && line == run.first_line + run.lines
                && index == run.first_index + run.lines * records;
            if joins {
                run.lines += 1;
                return;
            }
        }
        if self.0.len() < MAX_RUNS && records > 0 {
            self.0.push(Run {
                first_index: index,
                first_line: line,
                records_per_line: records,
                lines: 1,
            });
        }
    }

    /// The line a record came from.
    pub(super) fn line(&self, index: u64) -> Option<u64> {
        let after = self.0.partition_point(|run| run.first_index <= index);
        let run = self.0.get(after.checked_sub(1)?)?;
        let line = (index - run.first_index) / run.records_per_line;
        (line < run.lines).then_some(run.first_line + line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_finds_its_line_over_broken_and_wide_lines() {
        let mut rows = Rows::default();
        // Line 4 is broken, lines from 6 on give two records.
        for (index, line, records) in [(0, 2, 1), (1, 3, 1), (2, 5, 1), (3, 6, 2), (5, 7, 2)] {
            rows.add(index, line, records);
        }
        let lines: Vec<_> = (0..8).map(|index| rows.line(index)).collect();
        let expected = [2, 3, 5, 6, 6, 7, 7].map(Some);
        assert_eq!(lines[..7], expected);
        assert_eq!(lines[7], None);
        assert_eq!(rows.0.len(), 3);
    }
}
