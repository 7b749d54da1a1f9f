//! Figures as a table: aligned on a terminal, and as Markdown in a document.

use std::fmt::Write as _;

/// A column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: String,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A column of words: they begin at its left.
pub(crate) fn words(title: impl Into<String>) -> Column {
    Column { title: title.into(), side: Side::Left }
}

/// A column of figures: they end at its right.
pub(crate) fn figures(title: impl Into<String>) -> Column {
    Column { title: title.into(), side: Side::Right }
}

/// Rows below the titles of their columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Each row has as many cells as there are columns.
    pub(crate) fn new(
        columns: impl IntoIterator<Item = Column>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        Self { columns: columns.into_iter().collect(), rows: rows.into_iter().collect() }
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let width = |at: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([column.title.chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(at, one)| width(at, one)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for ((column, width), cell) in self.columns.iter().zip(&widths).zip(cells) {
                let _ = match column.side {
                    Side::Left => write!(line, "{cell:<width$}  "),
                    Side::Right => write!(line, "{cell:>width$}  "),
                };
            }
            line.trim_end().to_owned() + "\n"
        };
        let head = line(&mut self.columns.iter().map(|column| column.title.as_str()));
        self.rows.iter().fold(head, |text, row| text + &line(&mut row.iter().map(String::as_str)))
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            cells.fold("|".to_owned(), |line, cell| format!("{line} {cell} |")) + "\n"
        };
        let rule = self.columns.iter().map(|column| match column.side {
            Side::Left => "---",
            Side::Right => "--:",
        });
        let head = line(&mut self.columns.iter().map(|column| column.title.as_str())) + &line(&mut { rule });
        self.rows.iter().fold(head, |text, row| text + &line(&mut row.iter().map(String::as_str)))
    }
}

/// So many of something, in words.
pub(crate) fn number(of: usize, what: &str) -> String {
    format!("{of} {what}{}", if of == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |way: &str, calls: &str| vec![way.to_owned(), calls.to_owned()];
        Table::new([words("way"), figures("calls/s")], [row("directly", "60652"), row("µ", "9")])
    }

    #[test]
    fn on_a_terminal_words_begin_at_the_left_and_figures_end_at_the_right() {
        assert_eq!(table().text(), "way       calls/s\ndirectly    60652\nµ               9\n");
    }

    #[test]
    fn one_is_not_several() {
        let numbers = [0, 1, 2].map(|of| number(of, "connection"));
        assert_eq!(numbers, ["0 connections", "1 connection", "2 connections"]);
    }

    #[test]
    fn in_a_document_it_is_a_table_of_markdown() {
        let wanted = "| way | calls/s |\n| --- | --: |\n| directly | 60652 |\n| µ | 9 |\n";
        assert_eq!(table().markdown(), wanted);
    }
}
