//! The editions of the book, each with the words of its interface.

use serde::Serialize;

use crate::record::{self, CHINESE, ENGLISH, Language, texts};

/// The book in one language.
pub struct Edition {
    /// Its code on the command line, and its directory beside the first edition.
    pub code: &'static str,
    /// The language in HTML (BCP 47).
    pub language: &'static str,
    /// The name of the language, in it.
    pub name: &'static str,
    /// The course in this language.
    pub notes: &'static str,
    pub texts: Texts,
    pub stepper: record::Texts,
    pub recordings: Language,
}

/// Every edition.
pub const EDITIONS: &[Edition] = &[
    Edition {
        code: "en",
        language: "en",
        name: "English",
        notes: "NOTES.md",
        texts: Texts::ENGLISH,
        stepper: record::Texts { rule: "rule {rule}", ..record::Texts::ENGLISH },
        recordings: ENGLISH,
    },
    Edition {
        code: "zh",
        language: "zh-CN",
        name: "中文",
        notes: "NOTES.zh-CN.md",
        texts: Texts::CHINESE,
        stepper: record::Texts::CHINESE,
        recordings: CHINESE,
    },
];

texts! {
    /// The words of the interface.
    Texts {
        title: "okloop: the course" / "okloop 课程",
        skip: "To the text" / "跳到正文",
        contents: "Contents" / "目录",
        search: "Search" / "搜索",
        search_hint: "in text and programs" / "正文和程序",
        found: "{count} places" / "找到 {count} 处",
        found_nothing: "Nothing has all these words." / "没有同时包含这些词的地方。",
        found_more: "The first {count} are shown." / "只显示前 {count} 处。",
        program: "Program" / "程序",
        // What the colour means, and the switch.
        new_lines: "The green lines are new against {before}." / "绿色的行是 {before} 里没有的。",
        show_removed: "Show what {before} had instead" / "显示 {before} 里原来的行",
        back: "The course" / "课程",
        // The caption of a recording, and the link from a rule to a step.
        scene: "Scene {scene}. " / "场景 {scene}：",
        seen_in: "Rule {rule} in the scene {scene}" / "规则 {rule}，见场景 {scene}",
        keys: "Keys: / search · [ ] chapter before, next · in a recording: ← → step, m next moment, q quiz"
            / "按键：/ 搜索 · [ ] 上一章、下一章 · 在录像里：← → 一步，m 下一个看点，q 问答",
    }
}

impl Texts {
    pub fn new_lines_against(&self, before: &str) -> String {
        self.new_lines.replace("{before}", before)
    }

    pub fn show_removed_of(&self, before: &str) -> String {
        self.show_removed.replace("{before}", before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, to_value};

    use super::*;

    /// What has no Chinese word in it.
    const PLAIN: [&str; 3] = ["，", "poll", "_timeout"];

    fn tables(edition: &Edition) -> Vec<Value> {
        let tables =
            [to_value(&edition.texts), to_value(&edition.stepper), to_value(&edition.recordings.sentences)];
        tables.into_iter().map(|table| table.expect("a table has only texts")).collect()
    }

    /// The places for values in a text. `{s}` is an English plural.
    fn places(text: &str) -> BTreeSet<&str> {
        let places = text.split('{').skip(1).filter_map(|part| Some(part.split_once('}')?.0));
        places.filter(|place| *place != "s").collect()
    }

    #[test]
    fn each_chinese_text_is_translated_and_has_the_values_of_the_english_one() {
        for (english, chinese) in tables(&EDITIONS[0]).iter().zip(tables(&EDITIONS[1])) {
            for (name, english) in english.as_object().expect("a table") {
                let (english, chinese) = (english.as_str().expect("a text"), chinese[name].as_str());
                let chinese = chinese.expect("a text");
                assert_eq!(places(english), places(chinese), "{name}");
                let is_han = |c| ('\u{4e00}'..='\u{9fff}').contains(&c);
                assert!(chinese.contains(is_han) || PLAIN.contains(&chinese), "{name}: {chinese}");
            }
        }
    }
}
