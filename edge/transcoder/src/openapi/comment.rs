//! The comments of the `.proto` files, when the descriptor set carries them.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// Comments by file, then by the path of what they stand at.
#[derive(Default)]
pub(super) struct Comments {
    files: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Comments {
    /// The comment in front of what lies at `path` of a file, else the one behind it.
    pub(super) fn at(&mut self, file: &FileDescriptor, path: &[i32]) -> Option<&str> {
        if !self.files.contains_key(file.name()) {
            self.files.insert(file.name().to_owned(), read(file));
        }
        self.files.get(file.name())?.get(path).map(String::as_str)
    }
}

fn read(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let Some(info) = file.file_descriptor_proto().source_code_info.as_ref() else { return HashMap::new() };
    let mut comments = HashMap::new();
    for location in &info.location {
        let text = location.leading_comments.as_deref().or(location.trailing_comments.as_deref());
        if let Some(text) = text.map(clean).filter(|text| !text.is_empty()) {
            comments.entry(location.path.clone()).or_insert(text);
        }
    }
    comments
}

/// Without the space that follows the slashes, and without the line breaks that only keep the source narrow.
fn clean(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    harmless(lines.join("\n").trim())
}

/// Descriptions are Markdown, which lets HTML through; a comment is no place for scripts.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let word = tag.get(1..7).or_else(|| tag.get(1..)).unwrap_or_default();
        out.push_str(if word.eq_ignore_ascii_case("script") { "&lt;" } else { "<" });
        rest = &tag[1..];
    }
    out.push_str(rest);
    out.replace("eval(", "eval (")
}

/// The first sentence, without its full stop, on one line.
pub(super) fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(first, _)| first);
    sentence.trim().trim_end_matches('.').to_owned()
}

/// What a comment gives as examples: the words in backticks that follow "for example".
pub(super) fn examples(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("or example ").filter_map(|(at, found)| {
        let rest = text[at + found.len()..].trim_start().strip_prefix('`')?;
        rest.split_once('`').map(|(word, _)| word)
    })
}
