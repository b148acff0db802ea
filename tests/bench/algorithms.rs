//! Measures the cost of each algorithm of tokens.

use std::fs;
use std::path::Path;

use axum::body::Bytes;
use support::{Options, Stack};

use crate::Result;
use crate::calls::{self, Service};
use crate::endpoint::{Endpoint, Mode};
use crate::lambda::{Environment, Program};
use crate::peers::Verification;
use crate::report::{Report, median, progress, ratio};

const ALGORITHMS: [&str; 3] = ["HS256", "RS256", "ES256"];
/// The number of measured sign-ins with each algorithm.
const SIGNINS: usize = 50;
/// The number of sign-ins before them that are not measured.
const WARM_UP: usize = 5;

/// A stack whose tokens have an algorithm.
struct Deployment {
    algorithm: &'static str,
    _stack: Stack,
    _endpoint: Endpoint,
    environment: Environment,
    event: Bytes,
    /// The time of each sign-in, and of the verification right before it, in seconds.
    times: Vec<f64>,
    verifications: Vec<f64>,
}

/// Signs in warm environments with each algorithm in turn, and reports the times in relation to bare verifications.
pub(crate) async fn measure(
    signin: &Program,
    verification: &mut Verification,
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut deployments = Vec::new();
    for algorithm in ALGORITHMS {
        progress(&format!("warm sign-ins with {algorithm}"));
        deployments.push(Deployment::start(algorithm, signin, &folder.join(algorithm)).await?);
    }
    for round in 0..WARM_UP + SIGNINS {
        for deployment in &mut deployments {
            let verification = verification.run()?.as_secs_f64();
            let time = deployment.sign_in().await?;
            if round >= WARM_UP {
                deployment.verifications.push(verification);
                deployment.times.push(time);
            }
        }
    }
    for Deployment { algorithm, environment, times, verifications, .. } in deployments {
        report.figure(&format!("warm_signin_{algorithm}_vs_verify"), ratio(&times, &verifications));
        report.time(&format!("warm sign-in with {algorithm}"), median(&times));
        environment.stop().await?;
    }
    Ok(())
}

impl Deployment {
    async fn start(algorithm: &'static str, signin: &Program, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let settings = [("JWT_ALGORITHM".to_owned(), algorithm.to_owned())].into();
        let stack = Stack::start(Options { settings, ..Options::default() }).await?;
        let event = calls::signin(&Service::of(&stack)?.create_user("algorithm", false).await?);
        let endpoint = Endpoint::start(&stack.aws_url(), folder).await?;
        endpoint.answer(Mode::Replay);
        let mut program = signin.clone();
        let functions = stack.template().functions()?;
        let function = functions.into_iter().find(|function| function.name == signin.function.name);
        program.function = function.ok_or("the template has no such function")?;
        program.log = folder.join("signin.log");
        let environment = program.start(&endpoint).await?;
        let event = Bytes::from(event.to_string());
        let (times, verifications) = (Vec::new(), Vec::new());
        Ok(Self { algorithm, _stack: stack, _endpoint: endpoint, environment, event, times, verifications })
    }

    /// Returns the time in seconds.
    async fn sign_in(&mut self) -> Result<f64> {
        let invocation = self.environment.invoke(&self.event).await?;
        if invocation.answer["statusCode"] != 200 {
            return Err(format!("with {}: {}", self.algorithm, invocation.answer).into());
        }
        Ok(invocation.time.as_secs_f64())
    }
}
