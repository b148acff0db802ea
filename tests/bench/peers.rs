//! The programs that the functions are compared with: the bare verification of a password in Rust and in C, and the same
//! sign-in for Node.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use argon2_rust::params::Memory;
use argon2_rust::{Algorithm, Argon2, Hasher, Params, Version};
use support::template::Function;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Result;

/// The source files of the reference implementation, with the inner loop that is optimised for the target CPU.
const SOURCES: [&str; 6] = ["argon2.c", "core.c", "encoding.c", "thread.c", "opt.c", "blake2/blake2b.c"];

/// The parameters of Argon2.
#[derive(Clone, Copy)]
pub(crate) struct Parameters {
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
}

impl Parameters {
    /// Reads the parameters that a function is deployed with.
    pub(crate) fn of(function: &Function) -> Result<Self> {
        let number = |variable: &str| -> Result<u32> {
            let value = function.variables.get(variable).ok_or_else(|| format!("there is no {variable}"))?;
            Ok(value.parse()?)
        };
        let memory_kib = number("ARGON2_MEMORY_KIB")?;
        Ok(Self {
            memory_kib,
            iterations: number("ARGON2_ITERATIONS")?,
            lanes: number("ARGON2_PARALLELISM")?,
        })
    }
}

/// Argon2id as the functions compute it, without anything else, in reused memory.
pub(crate) struct Verification(Hasher);

impl Verification {
    pub(crate) fn new(Parameters { memory_kib, iterations, lanes }: Parameters) -> Result<Self> {
        let memory = Memory::kib(memory_kib.into());
        let params = Params::builder().memory(memory).passes(iterations).lanes(lanes).build()?;
        Ok(Self(Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hasher()))
    }

    /// Verifies a password once, and returns the time it took.
    pub(crate) fn run(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let mut output = [0; 32];
        self.0.hash_into(b"Password1234!", b"sixteen bytes of", &mut output)?;
        std::hint::black_box(output);
        Ok(began.elapsed())
    }
}

/// The reference implementation of Argon2 in C, in a process that computes one hash for each line of input.
pub(crate) struct Reference {
    /// The name of the figure that compares with it.
    pub(crate) key: &'static str,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Reference {
    /// Builds it for AVX2 from the sources in node-argon2, or else with the libargon2 of this system.
    pub(crate) async fn build(folder: &Path, parameters: Parameters) -> Result<Self> {
        let sources = folder.join("node/node_modules/argon2/argon2");
        let c = |name: &str| sources.join("src").join(name);
        let own = [&["-mavx2".into(), "-I".into(), sources.join("include")][..], &SOURCES.map(c)].concat();
        match Self::compile(folder, parameters, "verify_vs_c_avx2", &own).await {
            Ok(reference) => Ok(reference),
            Err(_) => Self::compile(folder, parameters, "verify_vs_libargon2", &["-largon2".into()]).await,
        }
    }

    async fn compile(
        folder: &Path,
        parameters: Parameters,
        key: &'static str,
        arguments: &[PathBuf],
    ) -> Result<Self> {
        let compiler = find("cc").ok_or("there is no C compiler")?;
        let (main, program) = (source("argon2.c"), folder.join("argon2"));
        let mut command = Command::new(compiler);
        command.args(["-O3", "-pthread", "-o"]).arg(&program).arg(main).args(arguments);
        run(&mut command).await?;
        let Parameters { memory_kib, iterations, lanes } = parameters;
        let mut process = Command::new(program)
            .args([memory_kib, iterations, lanes].map(|parameter| parameter.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("no pipes".into());
        };
        let output = BufReader::new(output).lines();
        let mut reference = Self { key, input, output, _process: process };
        // It fails here if the CPU has no AVX2.
        reference.run().await?;
        Ok(reference)
    }

    /// Computes one hash, and returns the time that the process measured.
    pub(crate) async fn run(&mut self) -> Result<Duration> {
        self.input.write_all(b"\n").await?;
        let line = self.output.next_line().await?.ok_or("the C program ended")?;
        Ok(Duration::from_nanos(line.trim().parse()?))
    }
}

/// Installs the packages of the sign-in for Node in `folder` unless they are there, bundles it, and returns the command
/// that starts it.
pub(crate) async fn node(folder: &Path) -> Result<Vec<PathBuf>> {
    let node = find("node").ok_or("there is no Node")?;
    let npm = find("npm").ok_or("there is no npm")?;
    let folder = folder.join("node");
    fs::create_dir_all(&folder)?;
    let lock = fs::read(source("node/package-lock.json"))?;
    let installed = fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock);
    for file in ["package.json", "package-lock.json", "signin.mjs"] {
        fs::copy(source("node").join(file), folder.join(file))?;
    }
    if !installed || !folder.join("node_modules").exists() {
        run(Command::new(&npm)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder))
        .await?;
    }
    run(Command::new(&npm).args(["run", "build"]).current_dir(&folder)).await?;
    Ok(vec![node, folder.join("dist/signin.mjs")])
}

/// Finds a program in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs a command to its end. The error is the first line of its output to standard error.
async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("it failed and said nothing").to_owned().into())
}
