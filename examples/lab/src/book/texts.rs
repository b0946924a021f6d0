//! The editions of the book, each with the words of its interface.

use serde::Serialize;

use crate::record::{self, CHINESE, ENGLISH};

/// The book in one language.
pub struct Edition {
    /// Its code (BCP 47).
    pub language: &'static str,
    /// The course in this language.
    pub notes: &'static str,
    pub texts: Texts,
    pub stepper: record::Texts,
}

/// The words of the interface. `{name}` stands for a value.
#[derive(Serialize)]
pub struct Texts {
    /// The caption of a recording.
    pub scene: &'static str,
    pub title: &'static str,
    pub skip: &'static str,
    pub contents: &'static str,
    pub search: &'static str,
    pub search_hint: &'static str,
    pub found: &'static str,
    pub found_nothing: &'static str,
    pub found_more: &'static str,
    pub program: &'static str,
    /// What the colour means, and the switch.
    pub new_lines: &'static str,
    pub show_removed: &'static str,
    pub back: &'static str,
    /// The link from a rule to a step.
    pub seen_in: &'static str,
    pub keys: &'static str,
}

impl Texts {
    pub fn new_lines_against(&self, before: &str) -> String {
        self.new_lines.replace("{before}", before)
    }

    pub fn show_removed_of(&self, before: &str) -> String {
        self.show_removed.replace("{before}", before)
    }
}

/// Every edition.
pub const EDITIONS: &[Edition] = &[ENGLISH_EDITION, CHINESE_EDITION];

const ENGLISH_EDITION: Edition = Edition {
    language: "en",
    notes: "NOTES.md",
    texts: Texts {
        scene: "Scene",
        title: "okloop: the course",
        skip: "To the text",
        contents: "Contents",
        search: "Search",
        search_hint: "in text and programs",
        found: "{count} places",
        found_nothing: "Nothing has all these words.",
        found_more: "The first {count} are shown.",
        program: "Program",
        new_lines: "The green lines are new against {before}.",
        show_removed: "Show what {before} had instead",
        back: "The course",
        seen_in: "Rule {rule} in the scene {scene}",
        keys: "Keys: / search · [ ] chapter before, next · in a recording: ← → step, m next moment, q quiz",
    },
    stepper: record::Texts { rule: "rule {rule}", ..ENGLISH },
};

const CHINESE_EDITION: Edition = Edition {
    language: "zh",
    notes: "NOTES.zh-CN.md",
    texts: Texts {
        scene: "场景",
        title: "okloop：课程",
        skip: "跳到正文",
        contents: "目录",
        search: "搜索",
        search_hint: "正文和程序",
        found: "找到 {count} 处",
        found_nothing: "没有同时包含这些词的地方。",
        found_more: "只显示前 {count} 处。",
        program: "程序",
        new_lines: "绿色的行是 {before} 里没有的。",
        show_removed: "显示 {before} 里原来的行",
        back: "课程",
        seen_in: "规则 {rule}，见场景 {scene}",
        keys: "按键：/ 搜索 · [ ] 上一章、下一章 · 在录制里：← → 一步，m 下一个要点，q 问答",
    },
    stepper: CHINESE,
};
