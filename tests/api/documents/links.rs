//! The links of the documents, and the paths that they name.

use std::fs;
use std::path::{Path, PathBuf};

/// The documents: those of the root, and the guide to the administration of users.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let mut documents: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect();
    documents.push(root.join("functions/manage_users/README.md"));
    documents
}

/// The text of a document without its blocks of code.
fn prose(document: &Path) -> String {
    let text = fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    text.split("```").step_by(2).collect()
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|character| character.is_alphanumeric() || "-_ ".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character }).collect()
}

#[test]
fn every_link_between_the_documents_works() {
    let mut count = 0;
    for document in documents() {
        let text = prose(&document);
        let targets =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            let link = format!("{target} in {}", document.display());
            assert!(file.exists(), "{link}");
            if !fragment.is_empty() {
                let text = prose(&file);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let named = |line: &str| anchor(line.trim_start_matches('#').trim()) == fragment;
                assert!(headings.any(named), "{link}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["functions/", "shared/", "tests/", "events/", ".ci/"];
    let mut count = 0;
    // The changelog also names files of earlier versions.
    for document in documents().iter().filter(|document| !document.ends_with("CHANGELOG.md")) {
        let text = prose(document);
        let words = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_whitespace().next());
        let is_path =
            |word: &&str| folders.iter().any(|folder| word.starts_with(folder)) && !word.contains("NAME");
        for path in words.filter(is_path) {
            assert!(root.join(path).exists(), "{path} in {}", document.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
