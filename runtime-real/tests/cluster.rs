//! A whole cluster in this process, on real disks and sockets: one master, three chunkservers, clients.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_core::id::Durability;
use runtime_real::client::Cluster;
use runtime_real::config::{ChunkserverOptions, MasterOptions};
use runtime_real::daemon::{ChunkserverDaemon, Handle, MasterDaemon, StartError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(60);

struct Fixture {
    master: Option<Handle>,
    master_options: MasterOptions,
    servers: Vec<Handle>,
    directory: TempDir,
}

impl Fixture {
    async fn start(servers: usize) -> Fixture {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("master");
        std::fs::create_dir(&data).unwrap();
        let mut options = MasterOptions {
            data,
            listen: "127.0.0.1:0".into(),
            http_listen: "127.0.0.1:0".into(),
            ..MasterOptions::default()
        };
        options.tuning.heartbeat_ms = 200;
        options.tuning.block_report_ms = 500;
        options.tuning.startup_grace_ms = 500;
        options.tuning.min_free_bytes = 0;
        let master = MasterDaemon::start(options.clone()).await.unwrap();
        // A restarted master must be found where it was.
        options.listen = master.address().to_string();
        let mut fixture =
            Fixture { master: Some(master), master_options: options, servers: Vec::new(), directory };
        for number in 0..servers {
            let server = fixture.server(number).await;
            fixture.servers.push(server);
        }
        for server in &fixture.servers {
            assert!(tokio::time::timeout(LIMIT, server.ready()).await.expect("ready in time"));
        }
        fixture
    }

    fn volume(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("server{number}"))
    }

    async fn server(&self, number: usize) -> Handle {
        ChunkserverDaemon::start(self.server_options(number)).await.unwrap()
    }

    fn server_options(&self, number: usize) -> ChunkserverOptions {
        let data = self.volume(number);
        std::fs::create_dir_all(&data).unwrap();
        let mut options = ChunkserverOptions {
            data: vec![data],
            listen: "127.0.0.1:0".into(),
            http_listen: "127.0.0.1:0".into(),
            masters: vec![self.master_options.listen.clone()],
            rack: format!("rack{number}"),
            ..ChunkserverOptions::default()
        };
        options.tuning.reserve_bytes = 0;
        options.tuning.reconnect_ms = 50;
        options
    }

    fn client(&self) -> Cluster {
        Cluster::connect([self.master_options.listen.clone()])
    }

    async fn restart_master(&mut self) {
        let master = self.master.take().expect("running");
        assert!(master.shutdown().await, "the master halts when asked to");
        let master = MasterDaemon::start(self.master_options.clone()).await.unwrap();
        assert!(tokio::time::timeout(LIMIT, master.ready()).await.expect("ready in time"));
        self.master = Some(master);
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Asks again and again until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            match ask().await {
                Some(answer) => break answer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, answer).await.expect(what)
}

/// One plain HTTP request; the response with its head.
async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_back_as_it_was_written_also_after_the_master_restarted() {
    let mut fixture = Fixture::start(3).await;
    let cluster = fixture.client();
    let bytes = pattern(20_000_000);
    cluster.mkdir("/a/b", true, 0o755).await.unwrap();
    let mut file = cluster.create("/a/b/f").chunk_bytes(8 << 20).await.unwrap();
    for part in bytes.chunks(777_777) {
        file.write_all(part).await.unwrap();
    }
    let status = file.close().await.unwrap();
    assert_eq!((status.length, status.crc), (20_000_000, crc32fast::hash(&bytes)));

    let mut back = Vec::new();
    cluster.open("/a/b/f").await.unwrap().read_to_end(&mut back).await.unwrap();
    assert!(back == bytes);

    fixture.restart_master().await;
    for client in [cluster, fixture.client()] {
        assert_eq!(client.stat("/a/b/f").await.unwrap().length, 20_000_000);
        let file = client.open("/a/b/f").await.unwrap();
        assert!(file.read_at(0, 20_000_000).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_can_be_read_and_asynchronous_files_too() {
    let fixture = Fixture::start(3).await;
    let cluster = fixture.client();
    let bytes = pattern(5_000_000);
    let mut file = cluster.create("/f").durability(Durability::Async).chunk_bytes(1 << 20).await.unwrap();
    file.write_bytes(bytes.clone().into()).await.unwrap();
    file.close().await.unwrap();

    let mut file = cluster.open("/f").await.unwrap();
    for (offset, length) in [(0, 1), (1_048_570, 12), (3_000_000, 2_500_000), (4_999_999, 10), (5_000_000, 1)]
    {
        let end = bytes.len().min(offset + length);
        assert!(
            file.read_at(offset as u64, length).await.unwrap() == bytes[offset..end],
            "{offset} {length}"
        );
        let mut part = vec![0; end - offset];
        file.seek(std::io::SeekFrom::Start(offset as u64)).await.unwrap();
        file.read_exact(&mut part).await.unwrap();
        assert!(part == bytes[offset..end], "{offset} {length} by seeking");
    }
    file.seek(std::io::SeekFrom::End(-3)).await.unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).await.unwrap();
    assert_eq!(tail, bytes[bytes.len() - 3..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_listed_renamed_deleted_and_restored() {
    let fixture = Fixture::start(1).await;
    let cluster = fixture.client();
    cluster.mkdir("/d", false, 0o755).await.unwrap();
    for name in ["/d/one", "/d/two"] {
        let mut file = cluster.create(name).replication(1).await.unwrap();
        file.write_all(name.as_bytes()).await.unwrap();
        file.close().await.unwrap();
    }
    // Dropped without close: it never was.
    drop(cluster.create("/d/three").replication(1).await.unwrap());
    cluster.rename("/d/two", "/d/deux", false).await.unwrap();
    let names: Vec<String> =
        cluster.list("/d").all().await.unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(names, ["deux", "one"]);

    cluster.delete("/d", true).await.unwrap();
    assert!(cluster.stat("/d/one").await.is_err());
    let entry = &cluster.trash().all().await.unwrap()[0];
    assert_eq!(cluster.restore("", Some(entry.id), Some("/e".into())).await.unwrap(), "/e");
    let text = cluster.open("/e/deux").await.unwrap().read_at(0, 100).await.unwrap();
    assert_eq!(&text[..], b"/d/two");

    let again = cluster.create("/e/one").await.err().map(|error| error.to_string());
    assert!(again.is_some_and(|error| error.contains("already exists")));
    // The master hears of a sealed replica a moment after the writer does.
    eventually("fsck finds nothing", async || cluster.fsck().all().await.unwrap().is_empty().then_some(()))
        .await;
    assert_eq!(cluster.status().await.unwrap().files, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_outlives_one_of_its_servers() {
    let mut fixture = Fixture::start(3).await;
    let cluster = fixture.client();
    let bytes = pattern(3_000_000);
    let mut file = cluster.create("/f").await.unwrap();
    file.write_bytes(bytes.clone().into()).await.unwrap();
    file.close().await.unwrap();
    fixture.servers.remove(1).kill().await;
    let file = cluster.open("/f").await.unwrap();
    assert!(file.read_at(0, 3_000_000).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_served() {
    let fixture = Fixture::start(1).await;
    for daemon in fixture.servers.iter().chain(&fixture.master) {
        let address = daemon.http_address().expect("configured");
        let health = fetch(address, "/health").await;
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
        let metrics = fetch(address, "/metrics").await;
        assert!(metrics.contains("\ncairn_ready 1\n"), "{metrics}");
    }
}

/// What an unmount does to whoever uses `place`: what was there is elsewhere, and there is an empty directory.
fn unmount(place: &Path) -> PathBuf {
    let away = place.with_extension("away");
    std::fs::rename(place, &away).unwrap();
    std::fs::create_dir(place).unwrap();
    away
}

/// Fails if anything was made in the empty directory.
fn mount(place: &Path, away: &Path) {
    std::fs::remove_dir(place).unwrap();
    std::fs::rename(away, place).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_unmounted_is_out_of_service_until_a_start_finds_it_again() {
    let mut fixture = Fixture::start(1).await;
    let cluster = fixture.client();
    let bytes = pattern(300_000);
    let mut file = cluster.create("/f").replication(1).await.unwrap();
    file.write_all(&bytes).await.unwrap();
    file.close().await.unwrap();

    let place = fixture.volume(0);
    let away = unmount(&place);
    let server = fixture.servers.remove(0);
    eventually("it is out of service", async || {
        let is_ready = server.health().await.expect("running").1.is_ok();
        let is_writable = cluster.status().await.unwrap().servers[0].volumes[0].writable;
        (!is_ready && !is_writable).then_some(())
    })
    .await;
    let http = server.http_address().expect("configured");
    let health = fetch(http, "/health").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("unmounted or replaced"), "{health}");
    let metrics = fetch(http, "/metrics").await;
    assert!(metrics.contains("\ncairn_volume_ready{volume=\"0\"} 0\n"), "{metrics}");
    assert!(server.shutdown().await);

    mount(&place, &away);
    let server = fixture.server(0).await;
    assert!(tokio::time::timeout(LIMIT, server.ready()).await.expect("ready in time"));
    assert!(cluster.open("/f").await.unwrap().read_at(0, 300_000).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_whose_directory_was_unmounted_stops() {
    let mut fixture = Fixture::start(0).await;
    let cluster = fixture.client();
    cluster.mkdir("/before", false, 0o755).await.unwrap();
    let master = fixture.master.take().expect("running");
    let place = fixture.master_options.data.clone();
    let away = unmount(&place);
    let reason = tokio::time::timeout(LIMIT, master.failed()).await.expect("noticed");
    assert!(reason.contains("unmounted or replaced"), "{reason}");
    drop(master);

    mount(&place, &away);
    // Its tasks end in their own time, and the port is free then.
    let started = eventually("the port is free", async || {
        match MasterDaemon::start(fixture.master_options.clone()).await {
            Err(StartError::Listen { .. }) => None,
            started => Some(started),
        }
    });
    let master = started.await.unwrap();
    assert!(tokio::time::timeout(LIMIT, master.ready()).await.expect("ready in time"));
    cluster.stat("/before").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blank_directories_are_refused_where_formatted_ones_are_required() {
    let mut fixture = Fixture::start(1).await;
    assert!(fixture.servers.remove(0).shutdown().await);
    let formatted = ChunkserverOptions { require_formatted: true, ..fixture.server_options(0) };
    ChunkserverDaemon::start(formatted).await.unwrap().kill().await;

    let blank = ChunkserverOptions { require_formatted: true, ..fixture.server_options(1) };
    let refused = ChunkserverDaemon::start(blank).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("server1") && refused.contains("require_formatted"), "{refused}");
    assert_eq!(std::fs::read_dir(fixture.volume(1)).unwrap().count(), 0);

    assert!(fixture.master.take().expect("running").shutdown().await);
    let options = MasterOptions { require_formatted: true, ..fixture.master_options.clone() };
    let master = MasterDaemon::start(options.clone()).await.unwrap();
    assert!(tokio::time::timeout(LIMIT, master.ready()).await.expect("ready in time"));
    let blank = fixture.volume(2);
    std::fs::create_dir(&blank).unwrap();
    let refused =
        MasterDaemon::start(MasterOptions { data: blank, listen: "127.0.0.1:0".into(), ..options }).await;
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("cairn-master"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_prevents_a_start_is_said_in_one_sentence() {
    let fixture = Fixture::start(0).await;
    let fault =
        |options: MasterOptions| async { MasterDaemon::start(options).await.map(|_| ()).unwrap_err() };

    let same = fault(fixture.master_options.clone()).await;
    assert!(matches!(same, StartError::Locked { .. }), "{same}");

    let other = fixture.directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let busy = fault(MasterOptions { data: other.clone(), ..fixture.master_options.clone() }).await;
    assert!(matches!(busy, StartError::Listen { .. }), "{busy}");
    assert!(busy.to_string().contains(&fixture.master_options.listen), "{busy}");

    let open =
        fault(MasterOptions { data: other, listen: "0.0.0.0:0".into(), ..fixture.master_options.clone() });
    assert!(open.await.to_string().contains("insecure_any_interface"));

    let missing = fixture.directory.path().join("missing");
    let missing = fault(MasterOptions { data: missing, ..fixture.master_options.clone() }).await;
    assert!(missing.to_string().contains("create it"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_and_a_directory_are_free_again_after_a_stop() {
    let mut fixture = Fixture::start(0).await;
    fixture.master.take().expect("running").kill().await;
    let again = MasterDaemon::start(fixture.master_options.clone()).await.unwrap();
    assert_eq!(again.address().to_string(), fixture.master_options.listen);
}
