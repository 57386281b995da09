//! Sizes, times and the like, as written on the command line.

use std::time::Duration;

use gpu_sim::{ComputeMode, Family, Fault};

type Parsed<T> = Result<T, String>;

#[derive(Debug, Clone, Copy)]
pub struct Cost(pub Family, pub Duration);

fn number_and_unit(text: &str) -> Parsed<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| format!("`{text}` has no number"))?;
    Ok((number, text[end..].trim()))
}

/// `512MB`, `2GB`, `1.5GiB`; a unit is 1024 of the one before.
pub fn bytes(text: &str) -> Parsed<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" if unit.eq_ignore_ascii_case("b") => 0,
        "k" => 10,
        "m" | "" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("`{text}` is no size")),
    };
    Ok((number * f64::from(1 << (shift % 30)) * if shift >= 30 { 2_f64.powi(shift / 30 * 30) } else { 1.0 }) as u64)
}

/// `150us`, `1ms`, `2s`.
pub fn duration(text: &str) -> Parsed<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let second = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(format!("`{text}` is no time: write it like 150us")),
    };
    Ok(Duration::from_secs_f64(number * second))
}

pub fn cost(text: &str) -> Parsed<Cost> {
    let (family, time) = text.split_once('=').ok_or_else(|| format!("`{text}` is not FAMILY=TIME"))?;
    let family = match family {
        "init" => Family::Init,
        "context" => Family::Context,
        "alloc" => Family::Alloc,
        "free" => Family::Free,
        "query" => Family::Query,
        "copy" => Family::Copy,
        "nvml" => Family::Nvml,
        "refusal" => Family::Refusal,
        "other" => Family::Other,
        _ => return Err(format!("`{family}` is no family of calls")),
    };
    Ok(Cost(family, duration(time)?))
}

pub fn compute_mode(text: &str) -> Parsed<ComputeMode> {
    match text {
        "default" => Ok(ComputeMode::Default),
        "exclusive" => Ok(ComputeMode::ExclusiveProcess),
        "prohibited" => Ok(ComputeMode::Prohibited),
        _ => Err(format!("`{text}` is no compute mode")),
    }
}

/// `12.4` or `12040`.
pub fn cuda_version(text: &str) -> Parsed<u32> {
    let no_version = |_| format!("`{text}` is no version of CUDA");
    match text.split_once('.') {
        Some((major, minor)) => {
            let major: u32 = major.parse().map_err(no_version)?;
            Ok(major * 1000 + minor.parse::<u32>().map_err(no_version)? * 10)
        }
        None => text.parse().map_err(no_version),
    }
}

/// `cuMemAlloc_v2=2`, `cuMemAlloc_v2=2@5`, `cuMemAlloc_v2=2@5x3`.
pub fn fault(text: &str) -> Parsed<Fault> {
    let not_a_fault = || format!("`{text}` is not FUNCTION=ERROR[@N][xCOUNT]");
    let (function, rest) = text.split_once('=').ok_or_else(not_a_fault)?;
    let (rest, times) = rest.split_once('x').map_or((rest, "1"), |(rest, times)| (rest, times));
    let (error, nth) = rest.split_once('@').unwrap_or((rest, "1"));
    let number = |text: &str| text.parse().map_err(|_| not_a_fault());
    let error = error.parse().map_err(|_| not_a_fault())?;
    Ok(Fault { nth: number(nth)?, times: number(times)?, ..Fault::next(function, error) })
}
