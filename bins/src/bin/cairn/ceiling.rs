//! What this machine can do at best with the same bytes and nothing else: the yardsticks of `cairn bench`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

const BUFFER: usize = 1024 * 1024;

/// Bytes a second of a bare relay client → A → B → C on loopback, each hop writing a file; with `sync`, each file is
/// fdatasynced at the end.
pub(crate) fn relay(dir: &Path, bytes: u64, sync: bool) -> Result<f64> {
    std::fs::create_dir_all(dir)?;
    let mut hops = Vec::new();
    let mut next: Option<u16> = None;
    for name in ["relay-c", "relay-b", "relay-a"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let file = File::create(dir.join(name))?;
        let onward = next.replace(port);
        hops.push(thread::spawn(move || hop(&listener, file, onward, sync)));
    }
    let started = Instant::now();
    let port = next.context("three hops")?;
    let mut first = connect(port)?;
    write_pattern(&mut first, bytes)?;
    first.shutdown(std::net::Shutdown::Write)?;
    let mut done = [0];
    first.read_exact(&mut done)?;
    let seconds = started.elapsed().as_secs_f64();
    for hop in hops {
        hop.join().map_err(|_| anyhow!("relay thread panicked"))??;
    }
    for name in ["relay-a", "relay-b", "relay-c"] {
        std::fs::remove_file(dir.join(name))?;
    }
    Ok(bytes as f64 / seconds)
}

fn hop(listener: &TcpListener, mut file: File, onward: Option<u16>, sync: bool) -> Result<()> {
    let (mut from, _) = listener.accept()?;
    let mut to = onward.map(connect).transpose()?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if let Some(to) = &mut to {
            to.write_all(&buffer[..read])?;
        }
        file.write_all(&buffer[..read])?;
    }
    if sync {
        file.sync_data()?;
    }
    if let Some(to) = &mut to {
        to.shutdown(std::net::Shutdown::Write)?;
        to.read_exact(&mut [0])?;
    }
    from.write_all(&[1])?;
    Ok(())
}

/// Bytes a second of a bare TCP stream on loopback that sends a file from the page cache with read and write.
pub(crate) fn stream(path: &Path, bytes: u64) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let source = path.to_path_buf();
    let server = thread::spawn(move || -> Result<()> {
        let (mut to, _) = listener.accept()?;
        let mut file = File::open(source)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read])?;
        }
    });
    let mut from = connect(port)?;
    let started = Instant::now();
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        total += read as u64;
    }
    let seconds = started.elapsed().as_secs_f64();
    server.join().map_err(|_| anyhow!("stream thread panicked"))??;
    anyhow::ensure!(total == bytes, "stream carried {total} of {bytes} bytes");
    Ok(bytes as f64 / seconds)
}

/// Makes the file that [`stream`] reads.
pub(crate) fn stream_file(dir: &Path, bytes: u64) -> Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("stream");
    let mut file = File::create(&path)?;
    write_pattern(&mut file, bytes)?;
    Ok(path)
}

/// Small files a second, each written to a temporary name, synced, renamed, its directory synced, three times over (RF 3).
pub(crate) fn small_files(dir: &Path, count: u32, bytes: usize) -> Result<f64> {
    let dirs: Vec<_> = (0..3).map(|i| dir.join(format!("small-{i}"))).collect();
    for dir in &dirs {
        std::fs::create_dir_all(dir)?;
    }
    let data = vec![7; bytes];
    let started = Instant::now();
    for i in 0..count {
        for dir in &dirs {
            let temporary = dir.join("temporary");
            let mut file = File::create(&temporary)?;
            file.write_all(&data)?;
            file.sync_data()?;
            std::fs::rename(&temporary, dir.join(format!("{i}")))?;
            File::open(dir)?.sync_all()?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    for dir in &dirs {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(f64::from(count) / seconds)
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn write_pattern(to: &mut impl Write, bytes: u64) -> Result<()> {
    let buffer = pattern();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(BUFFER as u64) as usize;
        to.write_all(&buffer[..part])?;
        left -= part as u64;
    }
    Ok(())
}

fn pattern() -> Vec<u8> {
    (0..BUFFER).map(|i| (i * 31 % 251) as u8).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_yardsticks_measure_something() {
        let dir = tempfile::tempdir().unwrap();
        assert!(super::relay(dir.path(), 3_000_000, true).unwrap() > 0.0);
        let file = super::stream_file(dir.path(), 3_000_000).unwrap();
        assert!(super::stream(&file, 3_000_000).unwrap() > 0.0);
        std::fs::remove_file(file).unwrap();
        assert!(super::small_files(dir.path(), 3, 100).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
