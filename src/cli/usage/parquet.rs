//! A table as a Parquet file: one row group, one plain page a column, nothing compressed.
//!
//! The least that the format permits, which every reader reads: a report has some thousand rows. The `parquet` crate
//! writes any kind of file, and costs every release build some 40 s of processor time; so it only reads, in the tests,
//! what is written here. The format: <https://parquet.apache.org/docs/file-format/>; what describes the file is in
//! Thrift's compact protocol.

/// What a column holds.
#[derive(Debug)]
pub(super) enum Values {
    /// Counts.
    Counts(Vec<u64>),
    /// Numbers, where there is one.
    Numbers(Vec<Option<f64>>),
    /// Texts.
    Texts(Vec<String>),
    /// Moments, in milliseconds since the Unix epoch.
    Times(Vec<i64>),
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// One for each row.
    pub(super) values: Values,
}

/// What begins and ends a file.
const MAGIC: &[u8] = b"PAR1";

// Numbers of Thrift's compact protocol.
const YES: u8 = 1;
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

// Numbers of Parquet.
const INT64: u64 = 2;
const DOUBLE: u64 = 5;
const BYTE_ARRAY: u64 = 6;
const PLAIN: u64 = 0;
const RLE: u64 = 3;

/// The file of `columns`, which are all of one length.
pub(super) fn file(columns: &[Column]) -> Vec<u8> {
    let rows = columns.first().map_or(0, |column| column.values.len());
    let mut file = MAGIC.to_vec();
    let mut chunks = Vec::with_capacity(columns.len());
    for column in columns {
        let page = column.values.page();
        let header = page_header(rows, page.len());
        let chunk = Chunk {
            column,
            at: file.len(),
            bytes: header.len() + page.len(),
        };
        chunks.push(chunk);
        file.extend(header);
        file.extend(page);
    }
    let described = description(&chunks, rows);
    let length = u32::try_from(described.len()).unwrap_or(u32::MAX);
    file.extend(described);
    file.extend(length.to_le_bytes());
    file.extend(MAGIC);
    file
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Counts(counts) => counts.len(),
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
            Self::Times(times) => times.len(),
        }
    }

    const fn kind(&self) -> u64 {
        match self {
            Self::Counts(_) | Self::Times(_) => INT64,
            Self::Numbers(_) => DOUBLE,
            Self::Texts(_) => BYTE_ARRAY,
        }
    }

    /// The values one after the other; before them, where some may lack, which do.
    fn page(&self) -> Vec<u8> {
        let mut page = Vec::new();
        match self {
            Self::Counts(counts) => {
                for count in counts {
                    let count = i64::try_from(*count).unwrap_or(i64::MAX);
                    page.extend(count.to_le_bytes());
                }
            }
            Self::Times(times) => page.extend(times.iter().flat_map(|time| time.to_le_bytes())),
            Self::Numbers(numbers) => {
                let levels = levels(numbers);
                let length = u32::try_from(levels.len()).unwrap_or(u32::MAX);
                page.extend(length.to_le_bytes());
                page.extend(levels);
                let there = numbers.iter().flatten();
                page.extend(there.flat_map(|number| number.to_le_bytes()));
            }
            Self::Texts(texts) => {
                for text in texts {
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    page.extend(length.to_le_bytes());
                    page.extend(text.as_bytes());
                }
            }
        }
        page
    }

    /// What the column is called and holds.
    fn schema(&self, name: &str) -> Struct {
        let optional = matches!(self, Self::Numbers(_));
        let schema = Struct::default()
            .int(1, I32, self.kind())
            .int(3, I32, u64::from(optional))
            .text(4, name);
        // Twice: older readers know the number only.
        match self {
            Self::Counts(_) | Self::Numbers(_) => schema,
            Self::Texts(_) => {
                let text = Struct::default().child(1, Struct::default());
                schema.int(6, I32, 0).child(10, text)
            }
            Self::Times(_) => {
                let millis = Struct::default().child(1, Struct::default());
                let time = Struct::default().yes(1).child(2, millis);
                schema
                    .int(6, I32, 9)
                    .child(10, Struct::default().child(8, time))
            }
        }
    }
}

/// Which of `numbers` are there: runs of the same.
fn levels(numbers: &[Option<f64>]) -> Vec<u8> {
    let mut levels = Vec::new();
    for run in numbers.chunk_by(|one, next| one.is_some() == next.is_some()) {
        varint(&mut levels, (run.len() as u64) << 1);
        levels.push(u8::from(run.iter().any(Option::is_some)));
    }
    levels
}

fn page_header(rows: usize, bytes: usize) -> Vec<u8> {
    let data = Struct::default()
        .int(1, I32, rows as u64)
        .int(2, I32, PLAIN)
        .int(3, I32, RLE)
        .int(4, I32, RLE);
    Struct::default()
        .int(1, I32, 0)
        .int(2, I32, bytes as u64)
        .int(3, I32, bytes as u64)
        .child(5, data)
        .end()
}

/// Where in the file a column is.
struct Chunk<'c> {
    column: &'c Column,
    at: usize,
    bytes: usize,
}

impl Chunk<'_> {
    fn described(&self, rows: usize) -> Struct {
        let (at, bytes) = (self.at as u64, self.bytes as u64);
        let name = Item::Text(self.column.name);
        let described = Struct::default()
            .int(1, I32, self.column.values.kind())
            .list(2, [PLAIN, RLE].map(Item::Int))
            .list(3, [name])
            .int(4, I32, 0)
            .int(5, I64, rows as u64)
            .int(6, I64, bytes)
            .int(7, I64, bytes)
            .int(9, I64, at);
        Struct::default().int(2, I64, at).child(3, described)
    }
}

/// What stands at the end of the file.
fn description(chunks: &[Chunk<'_>], rows: usize) -> Vec<u8> {
    let root = Struct::default()
        .text(4, "usage")
        .int(5, I32, chunks.len() as u64);
    let columns = chunks.iter().map(|chunk| chunk.column);
    let columns = columns.map(|column| column.values.schema(column.name));
    let schema: Vec<Item<'_>> = std::iter::once(root)
        .chain(columns)
        .map(Item::Struct)
        .collect();
    let described = chunks.iter().map(|chunk| chunk.described(rows));
    let described: Vec<Item<'_>> = described.map(Item::Struct).collect();
    let bytes: usize = chunks.iter().map(|chunk| chunk.bytes).sum();
    let group = Struct::default()
        .list(1, described)
        .int(2, I64, bytes as u64)
        .int(3, I64, rows as u64);
    Struct::default()
        .int(1, I32, 1)
        .list(2, schema)
        .int(3, I64, rows as u64)
        .list(4, [Item::Struct(group)])
        .text(6, concat!("tidegate ", env!("CARGO_PKG_VERSION")))
        .end()
}

/// A struct of Thrift; its fields are put in by their numbers, in order.
#[derive(Default)]
struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

/// What a list holds.
enum Item<'i> {
    Int(u64),
    Text(&'i str),
    Struct(Struct),
}

impl Struct {
    fn field(&mut self, number: u8, kind: u8) {
        self.bytes.push((number - self.last) << 4 | kind);
        self.last = number;
    }

    fn int(mut self, number: u8, kind: u8, value: u64) -> Self {
        self.field(number, kind);
        // Signed numbers are folded; none here is below zero.
        varint(&mut self.bytes, value << 1);
        self
    }

    fn yes(mut self, number: u8) -> Self {
        self.field(number, YES);
        self
    }

    fn text(mut self, number: u8, text: &str) -> Self {
        self.field(number, BINARY);
        put_text(&mut self.bytes, text);
        self
    }

    fn child(mut self, number: u8, child: Self) -> Self {
        self.field(number, STRUCT);
        self.bytes.extend(child.end());
        self
    }

    fn list<'i>(mut self, number: u8, items: impl IntoIterator<Item = Item<'i>>) -> Self {
        self.field(number, LIST);
        let items: Vec<Item<'_>> = items.into_iter().collect();
        let kind = match items.first() {
            Some(Item::Struct(_)) => STRUCT,
            Some(Item::Text(_)) => BINARY,
            Some(Item::Int(_)) | None => I32,
        };
        self.bytes.push(0xf0 | kind);
        varint(&mut self.bytes, items.len() as u64);
        for item in items {
            match item {
                Item::Int(value) => varint(&mut self.bytes, value << 1),
                Item::Text(text) => put_text(&mut self.bytes, text),
                Item::Struct(inner) => self.bytes.extend(inner.end()),
            }
        }
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    varint(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// Seven bits a byte, the low ones first.
fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    /// What another's reader reads: the rows, each as its columns.
    fn read(columns: &[Column]) -> Vec<Vec<(String, Field)>> {
        let reader = SerializedFileReader::new(bytes::Bytes::from(file(columns))).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().into_columns()).collect()
    }

    fn columns(rows: usize) -> [Column; 4] {
        let column = |name, values| Column { name, values };
        let count = |row: usize| if row == 0 { 0 } else { u64::MAX >> (row % 64) };
        let number = |row: usize| (row / 3).is_multiple_of(2).then_some(row as f64 / 8.0);
        [
            column(
                "at",
                Values::Times((0..rows).map(|row| row as i64 * 3_600_000).collect()),
            ),
            column(
                "who",
                Values::Texts((0..rows).map(|row| "ä".repeat(row % 99)).collect()),
            ),
            column("requests", Values::Counts((0..rows).map(count).collect())),
            column("p98", Values::Numbers((0..rows).map(number).collect())),
        ]
    }

    #[test]
    fn another_reader_reads_what_was_written() {
        for rows in [0, 1, 2, 300] {
            let read = read(&columns(rows));
            assert_eq!(read.len(), rows);
            for (row, fields) in read.into_iter().enumerate() {
                let number = (row / 3).is_multiple_of(2).then_some(row as f64 / 8.0);
                let count = if row == 0 { 0 } else { u64::MAX >> (row % 64) };
                let expected = [
                    ("at", Field::TimestampMillis(row as i64 * 3_600_000)),
                    ("who", Field::Str("ä".repeat(row % 99))),
                    (
                        "requests",
                        Field::Long(i64::try_from(count).unwrap_or(i64::MAX)),
                    ),
                    ("p98", number.map_or(Field::Null, Field::Double)),
                ];
                let expected = expected.map(|(name, field)| (name.to_owned(), field));
                assert_eq!(fields, expected, "row {row}");
            }
        }
    }
}
