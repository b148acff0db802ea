//! Lists the files of texts, so that adding one adds a language.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=texts");
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("texts");
    let files: Result<Vec<PathBuf>, io::Error> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.sort();
    let list: Vec<String> = files.iter().map(|file| format!("include_str!({:?})", file.display())).collect();
    fs::write(Path::new(&variable("OUT_DIR")?).join("texts.rs"), format!("&[{}]", list.join(", ")))
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}
