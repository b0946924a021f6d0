//! The command `lab`. The library beside it says what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return lab::run();

    #[cfg(not(target_os = "linux"))]
    {
        eprintln!("The laboratory needs Linux: it reads /proc");
        ExitCode::from(2)
    }
}
