//! Tables: which columns fit, which rows are wanted, and in which order. It knows nothing of servers.

use std::cmp::Ordering;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Blanks between columns.
pub(super) const GAP: usize = 2;

/// Columns from this rank on give way to names, as far as those have so many columns of a terminal.
const SPARE_RANK: u8 = 9;
const NAME_COLUMNS_MAX: usize = 24;

/// What a column is, whatever is in it.
#[derive(Debug)]
pub(super) struct Column {
    /// What it is sorted by: the word that people type.
    pub(super) key: &'static str,
    /// Other words for it, those of nats-top.
    pub(super) aliases: &'static [&'static str],
    pub(super) title: &'static str,
    pub(super) kind: ColumnKind,
    /// Columns it takes on a terminal. Text gets what others leave, from this on.
    pub(super) width: usize,
    /// Those with the highest are left out first where there is too little room; 0 stays.
    pub(super) rank: u8,
    /// What `/connz` calls this order, if it has it.
    pub(super) server_sort: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// Names and the like, sorted by letters, from the left.
    Text,
    /// As [`ColumnKind::Text`], but something to be read, from its beginning.
    Words,
    /// Text that need not be shown if there is none.
    Extra,
    /// Sorted by size, the largest first.
    Number,
    /// As [`ColumnKind::Number`], but the smallest first, since it only tells one from another.
    Id,
    /// A number a second.
    Rate,
    /// What the rate is of, ever since.
    Total,
}

/// Whether rates or totals are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Figures {
    #[default]
    Rates,
    Totals,
    Both,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) value: Value,
    /// Somebody should look at it.
    pub(super) is_bad: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    /// In small letters.
    Text(String),
}

/// One line of a table, with a cell for each column there could be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Whose it is: the same from round to round.
    pub(super) id: String,
    pub(super) cells: Vec<Cell>,
}

/// An order: by which column, and whether the other way round than that column has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) column: usize,
    pub(super) is_reversed: bool,
}

impl ColumnKind {
    pub(super) fn is_right_aligned(self) -> bool {
        !matches!(self, Self::Text | Self::Words | Self::Extra)
    }

    fn is_descending(self) -> bool {
        matches!(self, Self::Number | Self::Rate | Self::Total)
    }
}

impl Order {
    /// Whether the largest come first.
    pub(super) fn is_descending(self, columns: &[Column]) -> bool {
        columns[self.column].kind.is_descending() != self.is_reversed
    }
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            value: Value::Text(text.to_lowercase()),
            text,
            is_bad: false,
        }
    }

    pub(super) fn number(value: f64, text: impl Into<String>) -> Self {
        Self {
            value: Value::Number(value),
            text: text.into(),
            is_bad: false,
        }
    }

    /// What is not known, which is less than all that is.
    pub(super) fn unknown() -> Self {
        Self::number(f64::NEG_INFINITY, "–")
    }

    pub(super) fn bad_if(self, is_bad: bool) -> Self {
        Self { is_bad, ..self }
    }
}

impl Value {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

/// The column of this name, however it is written; the beginning of one name alone is enough.
pub(super) fn find(columns: &[Column], name: &str) -> Option<usize> {
    let wanted = name.trim().to_lowercase().replace(['-', ' '], "_");
    if wanted.is_empty() {
        return None;
    }
    let is_named = |column: &Column| column.key == wanted || column.aliases.contains(&&*wanted);
    columns.iter().position(is_named).or_else(|| {
        let mut begun = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.key.starts_with(&wanted));
        let (at, _) = begun.next()?;
        begun.next().is_none().then_some(at)
    })
}

/// Sorts; those that are equal stay in the order in which they are.
pub(super) fn sort(rows: &mut [Row], columns: &[Column], order: Order) {
    let is_descending = order.is_descending(columns);
    rows.sort_by(|left, right| {
        let [left, right] = [left, right].map(|row| &row.cells[order.column].value);
        if is_descending {
            right.compare(left)
        } else {
            left.compare(right)
        }
    });
}

/// Keeps the rows in which this text stands somewhere, in capital letters or small ones.
pub(super) fn filter(rows: &mut Vec<Row>, text: &str) {
    let wanted = text.trim().to_lowercase();
    if wanted.is_empty() {
        return;
    }
    rows.retain(|row| {
        let mut cells = row.cells.iter();
        cells.any(|cell| match &cell.value {
            Value::Text(text) => text.contains(&wanted),
            Value::Number(_) => cell.text.to_lowercase().contains(&wanted),
        })
    });
}

/// Columns that are worth showing: those of the wanted figures, and no extra one in which nothing is.
pub(super) fn worthwhile(columns: &[Column], rows: &[Row], figures: Figures) -> Vec<usize> {
    let is_worthwhile = |at: &usize| match columns[*at].kind {
        ColumnKind::Extra => rows.iter().any(|row| !row.cells[*at].text.is_empty()),
        ColumnKind::Rate => figures != Figures::Totals,
        ColumnKind::Total => figures != Figures::Rates,
        ColumnKind::Text | ColumnKind::Words | ColumnKind::Number | ColumnKind::Id => true,
    };
    (0..columns.len()).filter(is_worthwhile).collect()
}

/// Those of the columns that fit into so many columns of a terminal, with the width of each. The one sorted by is among
/// them if it can be, with room for its mark.
pub(super) fn fit(
    columns: &[Column],
    rows: &[Row],
    wanted: &[usize],
    sorted_by: usize,
    width: usize,
) -> Vec<(usize, usize)> {
    let rank = |at: usize| if at == sorted_by { 0 } else { columns[at].rank };
    let own = |at: usize| {
        let column = &columns[at];
        match at == sorted_by {
            true => column.width.max(column.title.width() + 1),
            false => column.width,
        }
    };
    let mut kept = wanted.to_vec();
    let taken = |kept: &[usize]| -> usize {
        let widths: usize = kept.iter().map(|at| own(*at)).sum();
        widths + GAP * kept.len().saturating_sub(1)
    };
    let is_text = |at: usize| !columns[at].kind.is_right_aligned();
    let names = kept.iter().copied().find(|at| is_text(*at));
    // What the first of them lacks.
    let lacking = names.map_or(0, |at| {
        let longest = rows.iter().map(|row| row.cells[at].text.width()).max();
        let longest = longest.unwrap_or(0).min(NAME_COLUMNS_MAX);
        longest.saturating_sub(own(at))
    });
    while kept.len() > 1 {
        // Of several with the same rank the last one goes.
        let Some(worst) = (0..kept.len()).max_by_key(|at| (rank(kept[*at]), *at)) else {
            break;
        };
        let is_spare = rank(kept[worst]) >= SPARE_RANK;
        if taken(&kept) + if is_spare { lacking } else { 0 } <= width {
            break;
        }
        let gone = &columns[kept.remove(worst)];
        // What goes in says little without what comes out.
        if matches!(gone.kind, ColumnKind::Rate | ColumnKind::Total) {
            kept.retain(|at| {
                let other = &columns[*at];
                (other.kind, rank(*at)) != (gone.kind, gone.rank)
            });
        }
    }
    let mut left = width.saturating_sub(taken(&kept));
    let mut fitted: Vec<_> = kept.iter().map(|at| (*at, own(*at))).collect();
    let first = fitted.iter_mut().find(|(at, _)| is_text(*at));
    if let Some((_, width)) = first {
        let more = lacking.min(left);
        *width += more;
        left -= more;
    }
    // What is left goes to text, since names are long; to each a share, to the first what cannot be shared.
    let mut texts: Vec<_> = fitted
        .iter_mut()
        .filter(|(at, _)| !columns[*at].kind.is_right_aligned())
        .collect();
    let shares = texts.len().max(1);
    let share = left / shares;
    for (at, width) in &mut texts {
        let more = share.min(columns[*at].width * 2);
        *width += more;
        left -= more;
    }
    if let Some((_, width)) = texts.first_mut() {
        *width += left;
    }
    // One that is too wide even alone is cut off.
    for (_, own) in &mut fitted {
        *own = (*own).min(width);
    }
    fitted
}

/// The text in so many columns of a terminal: cut off with a mark, or filled up with blanks.
pub(super) fn padded(text: &str, width: usize, is_right_aligned: bool) -> String {
    let mut cut = clipped(text, width);
    let blanks = width.saturating_sub(cut.width());
    if is_right_aligned {
        cut.insert_str(0, &" ".repeat(blanks));
    } else {
        cut.extend(std::iter::repeat_n(' ', blanks));
    }
    cut
}

/// As much of a text as fits into so many columns, with a mark where it was cut off.
pub(super) fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let own = letter.width().unwrap_or(0);
        if taken + own + 1 > width {
            break;
        }
        taken += own;
        cut.push(letter);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// The text in so many columns with a mark in place of its middle: names of a kind begin alike and end in what tells them
/// apart.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width || width < 3 {
        return clipped(text, width);
    }
    let room_behind = (width - 1) / 2;
    let mut behind = text.len();
    let mut taken = 0;
    for (at, letter) in text.char_indices().rev() {
        let own = letter.width().unwrap_or(0);
        if taken + own > room_behind {
            break;
        }
        taken += own;
        behind = at;
    }
    let (front, end) = text.split_at(behind);
    // Its mark is where the middle was.
    clipped(front, width - taken) + end
}

/// All rows as plain text, each column as wide as what is in it, with the titles on top.
pub(super) fn plain(columns: &[Column], rows: &[Row], figures: Figures) -> String {
    let wanted = worthwhile(columns, rows, figures);
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row.cells[at].text.width());
        cells.chain([columns[at].title.width()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = wanted.iter().map(|at| width(*at)).collect();
    let mut text = String::new();
    let mut line = |cell: &dyn Fn(usize) -> String| {
        let parts = wanted
            .iter()
            .zip(&widths)
            .map(|(at, width)| padded(&cell(*at), *width, columns[*at].kind.is_right_aligned()));
        let line = parts.collect::<Vec<_>>().join(&" ".repeat(GAP));
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&|at| columns[at].title.to_owned());
    for row in rows {
        line(&|at| row.cells[at].text.clone());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(key: &'static str, kind: ColumnKind, width: usize, rank: u8) -> Column {
        Column {
            key,
            aliases: &[],
            title: key,
            kind,
            width,
            rank,
            server_sort: None,
        }
    }

    const COLUMNS: &[Column] = &[
        column("cid", ColumnKind::Id, 5, 1),
        column("name", ColumnKind::Text, 8, 0),
        column("user", ColumnKind::Extra, 6, 3),
        column("in_msgs", ColumnKind::Rate, 7, 2),
        column("in_bytes", ColumnKind::Total, 7, 2),
    ];

    fn row(cid: u64, name: &str, rate: f64) -> Row {
        Row {
            id: cid.to_string(),
            cells: vec![
                Cell::number(cid as f64, cid.to_string()),
                Cell::text(name),
                Cell::text(""),
                Cell::number(rate, rate.to_string()),
                Cell::unknown(),
            ],
        }
    }

    fn order(name: &str, is_reversed: bool) -> Vec<String> {
        let mut rows = [row(1, "b", 2.0), row(2, "A", 3.0), row(3, "c", 3.0)];
        let column = find(COLUMNS, name).unwrap();
        sort(
            &mut rows,
            COLUMNS,
            Order {
                column,
                is_reversed,
            },
        );
        rows.into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn orders() {
        assert_eq!(order("cid", false), ["1", "2", "3"]);
        assert_eq!(order("cid", true), ["3", "2", "1"]);
        assert_eq!(order("name", false), ["2", "1", "3"]);
        assert_eq!(order("in_msgs", false), ["2", "3", "1"]);
        assert_eq!(order("in_msgs", true), ["1", "2", "3"]);
    }

    #[test]
    fn columns_are_found_by_the_beginning_of_their_name() {
        assert_eq!(find(COLUMNS, "Na"), Some(1));
        assert_eq!(find(COLUMNS, "in-bytes"), Some(4));
        assert_eq!(find(COLUMNS, "in_"), None, "two begin with it");
        assert_eq!(find(COLUMNS, ""), None);
        assert_eq!(find(COLUMNS, "x"), None);
    }

    #[test]
    fn filters() {
        let mut rows = vec![row(1, "Bob", 2.0), row(21, "ann", 3.0)];
        filter(&mut rows, " bo ");
        assert_eq!(rows.len(), 1);
        filter(&mut rows, "");
        assert_eq!(rows.len(), 1);
        let mut rows = vec![row(1, "Bob", 2.0), row(21, "ann", 3.0)];
        filter(&mut rows, "21");
        assert_eq!(rows[0].id, "21");
        filter(&mut rows, "nobody");
        assert!(rows.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_the_rest_is_for_names() {
        let rows = [row(1, "a", 1.0)];
        let wanted = worthwhile(COLUMNS, &rows, Figures::Rates);
        assert_eq!(wanted, [0, 1, 3]);
        assert_eq!(worthwhile(COLUMNS, &rows, Figures::Totals), [0, 1, 4]);
        let fitted = |width| fit(COLUMNS, &rows, &wanted, 0, width);
        assert_eq!(fitted(40), [(0, 5), (1, 24), (3, 7)]);
        assert_eq!(fitted(24), [(0, 5), (1, 8), (3, 7)]);
        assert_eq!(fitted(23), [(0, 5), (1, 16)]);
        assert_eq!(fitted(15), [(0, 5), (1, 8)]);
        assert_eq!(fit(COLUMNS, &rows, &wanted, 3, 18), [(1, 8), (3, 8)]);
        for width in 0..60 {
            let fitted = fitted(width);
            let taken: usize = fitted.iter().map(|(_, own)| own + GAP).sum();
            assert!(taken <= width + GAP, "{width}: {fitted:?}");
        }
    }

    #[test]
    fn what_belongs_together_goes_together_and_names_come_before_what_can_be_spared() {
        const COLUMNS: &[Column] = &[
            column("name", ColumnKind::Text, 8, 0),
            column("in", ColumnKind::Rate, 6, 1),
            column("out", ColumnKind::Rate, 6, 1),
            column("bytes_in", ColumnKind::Rate, 9, 5),
            column("bytes_out", ColumnKind::Rate, 9, 5),
            column("client", ColumnKind::Extra, 6, 10),
        ];
        let keys = |name: &str, sorted_by: usize, width: usize| {
            let mut cells = vec![Cell::text("x"); COLUMNS.len()];
            cells[0] = Cell::text(name);
            let rows = [Row {
                id: "1".to_owned(),
                cells,
            }];
            let wanted: Vec<usize> = (0..COLUMNS.len()).collect();
            let fitted = fit(COLUMNS, &rows, &wanted, sorted_by, width);
            let keys = fitted.iter().map(|(at, _)| COLUMNS[*at].key);
            (fitted[0].1, keys.collect::<Vec<_>>().join(" "))
        };
        let all = "name in out bytes_in bytes_out client";
        assert_eq!(keys("short", 1, 60), (11, all.to_owned()));
        let long = "a-name-of-twenty-one-";
        let spared = "name in out bytes_in bytes_out";
        assert_eq!(keys(long, 1, 60), (22, spared.to_owned()));
        assert_eq!(keys(long, 1, 46), (8, spared.to_owned()));
        assert_eq!(keys(long, 1, 45), (29, "name in out".to_owned()));
        assert_eq!(keys(long, 3, 45), (18, "name in out bytes_in".to_owned()));
    }

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(padded("abc", 5, false), "abc  ");
        assert_eq!(padded("abc", 5, true), "  abc");
        assert_eq!(padded("abcdef", 5, true), "abcd…");
        assert_eq!(padded("日本語", 5, false), "日本…");
        assert_eq!(padded("日本語", 4, false), "日… ");
        assert_eq!(padded("abc", 1, false), "…");
        assert_eq!(padded("abc", 0, false), "");
    }

    #[test]
    fn names_are_shortened_in_the_middle() {
        assert_eq!(shortened("natterjack-one", 8), "natt…one");
        assert_eq!(shortened("natterjack-two", 9), "natt…-two");
        assert_eq!(shortened("natterjack", 10), "natterjack");
        assert_eq!(shortened("abcd", 3), "a…d");
        assert_eq!(shortened("abcd", 2), "a…");
        assert_eq!(shortened("abcd", 0), "");
        assert_eq!(shortened("日本語日本語", 7), "日本…語");
        assert_eq!(shortened("日本語日本語", 6), "日…語");
        for width in 0..20 {
            assert!(shortened("a日b本c語d-0123456789", width).width() <= width);
        }
    }

    #[test]
    fn plain_text_lines_up() {
        let text = plain(
            COLUMNS,
            &[row(1, "a-long-name", 2.0), row(20, "b", 1.5)],
            Figures::Both,
        );
        assert_eq!(
            text,
            "cid  name         in_msgs  in_bytes\n  1  a-long-name        2         –\n 20  b                1.5         –\n"
        );
    }
}
