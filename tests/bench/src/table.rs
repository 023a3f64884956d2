//! The table that is printed at the end; rows are shown on stderr as they come.

/// Rows in the order of measuring.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a row: what, how much, what was aimed at, and what else is known.
    pub fn row(&mut self, what: impl Into<String>, value: impl Into<String>, goal: &str, note: impl Into<String>) {
        let row = [what.into(), value.into(), goal.to_owned(), note.into()];
        eprintln!("bench:   {}: {} ({})", row[0], row[1], row[3]);
        self.rows.push(row);
    }

    /// The table in Markdown.
    pub fn finish(self) -> String {
        let mut all = vec![["measured", "reached", "goal", "beside"].map(str::to_owned)];
        all.extend(self.rows);
        let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        let mut lines: Vec<String> = all
            .iter()
            .map(|row| {
                let cells: Vec<String> = row
                    .iter()
                    .zip(widths)
                    .map(|(cell, width)| format!("{cell:<width$}"))
                    .collect();
                format!("| {} |", cells.join(" | "))
            })
            .collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, format!("| {} |", rule.join(" | ")));
        lines.join("\n")
    }
}

/// A number with separators: 12,345.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The value below which this part of the sorted numbers lies.
pub fn percentile(sorted: &[u32], part: f64) -> u32 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}
