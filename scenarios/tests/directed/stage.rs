//! What the stories are told with.

use std::future::Future;

use cairn_core::client::{ClientRequest, ClientResponse};
use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig};
use cairn_core::defect::Defects;
use cairn_core::id::HandleId;
use cairn_core::time::Span;
use runtime_sim::World;
use scenarios::checker::{ack_durability, claims, convergence, log_agreement, one_primary, versions};
use scenarios::cluster::{Cluster, options};
use scenarios::shape::{ServerShape, Shape};
use scenarios::violation::Violations;
use scenarios::workload::content::Content;
use scenarios::workload::operation::{Operation, Outcome, Storage};
use scenarios::workload::perform::perform;

/// Chunks of 64 KiB, so that small files have many.
pub(crate) const CHUNK: u64 = 65_536;

/// Four servers in two racks, one volume each, three replicas, quorum of two, quick to notice trouble.
pub(crate) fn shape() -> Shape {
    Shape {
        servers: (0..4).map(|i| ServerShape { rack: format!("rack{}", i % 2), volumes: 1 }).collect(),
        clients: 2,
        users: 0,
        storages: vec![storage()],
        master: MasterConfig {
            heartbeat_ms: 100,
            dead_after_ms: 1_000,
            block_report_ms: 1_000,
            lease_ms: 500,
            seal_grace_ms: 50,
            seal_timeout_ms: 1_000,
            upload_expiry_ms: 4_000,
            undelete_ms: 60_000,
            startup_grace_ms: 1_500,
            repair_delay_ms: 200,
            repair_timeout_ms: 4_000,
            chunk_bytes: CHUNK,
            min_free_bytes: 1 << 20,
            ..MasterConfig::default()
        },
        chunkserver: ChunkserverConfig {
            reserve_bytes: 1 << 20,
            quarantine_ms: 1_000,
            scrub_bytes_per_second: 4 << 20,
            reconnect_ms: 50,
            copy_timeout_ms: 500,
            ..ChunkserverConfig::default()
        },
        client: ClientConfig {
            request_timeout_ms: 300,
            operation_deadline_ms: 10_000,
            retry_ms: 20,
            read_timeout_ms: 300,
            append_timeout_ms: 500,
            write_window_bytes: 65_536,
            frame_bytes: 8_192,
            read_bytes: 32_768,
            keep_upload_ms: 800,
            ..ClientConfig::default()
        },
        latency_us: 200,
        jitter_us: 100,
        drift_ppm: 100,
        disk_slow_factor: 1,
    }
}

/// The stories' way of storing files.
pub(crate) fn storage() -> Storage {
    Storage { replication: 3, quorum: 2, chunk_bytes: CHUNK, relaxed: false }
}

/// A cluster on which a story is told.
#[derive(Clone)]
pub(crate) struct Stage {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// Its world.
    pub(crate) world: World,
    violations: Violations,
}

/// Tells a story on a cluster of [`shape`]. At its end the cluster must become whole, and no checker may complain.
pub(crate) fn tell<F, Fut>(seed: u64, story: F)
where
    F: FnOnce(Stage) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    tell_on(seed, shape(), true, story);
}

/// The same on another cluster; `heals`: whether it must become whole at the end.
pub(crate) fn tell_on<F, Fut>(seed: u64, shape: Shape, heals: bool, story: F)
where
    F: FnOnce(Stage) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let world_options = options(&shape);
    let outcome = runtime_sim::run(seed, world_options, move |world| async move {
        let cluster = Cluster::start(&world, &shape, Defects::none());
        let stage = Stage { cluster: cluster.clone(), world, violations: Violations::default() };
        ack_durability::watch(&cluster, &stage.violations);
        log_agreement::watch(&cluster, Defects::none(), &stage.violations);
        one_primary::watch(&cluster, &stage.violations);
        claims::watch(&cluster, &stage.violations);
        versions::watch(&cluster, &stage.violations);
        assert!(cluster.until_ready(Span::from_ms(20_000)).await, "the cluster does not start");
        story(stage.clone()).await;
        if heals {
            convergence::check(&cluster, &stage.violations).await;
        }
        stage.violations.take()
    });
    match outcome.result {
        Ok(violations) => assert_eq!(violations, [], "seed {seed}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

/// A content of so many bytes, different for each number.
pub(crate) fn content(number: u32, length: u64) -> Content {
    Content { number, length: length as u32 }
}

impl Stage {
    /// Does one thing as client 0.
    pub(crate) async fn perform(&self, operation: &Operation) -> Outcome {
        perform(&self.cluster.clients[0], operation).await
    }

    /// Writes a file, which must succeed.
    pub(crate) async fn put(&self, path: &str, content: Content) {
        let outcome = self.try_put(path, content).await;
        let expected = Outcome::Stored { length: u64::from(content.length), crc: content.crc() };
        assert_eq!(outcome, expected, "put {path}");
    }

    /// Writes a file.
    pub(crate) async fn try_put(&self, path: &str, content: Content) -> Outcome {
        let operation =
            Operation::Put { path: path.into(), content, replace: true, piece: 16_384, storage: storage() };
        self.perform(&operation).await
    }

    /// Reads a file, which must have exactly this content.
    pub(crate) async fn expect(&self, path: &str, content: Content) {
        let outcome = self.perform(&Operation::Get { path: path.into() }).await;
        let Outcome::Read { length, crc, .. } = outcome else { panic!("get {path}: {outcome:?}") };
        assert_eq!((length, crc), (u64::from(content.length), content.crc()), "get {path}");
    }

    /// Makes a call as client 0, which must succeed.
    pub(crate) async fn call(&self, request: ClientRequest) -> ClientResponse {
        let shown = format!("{request:?}");
        match self.cluster.clients[0].call(request).await {
            Ok(response) => response,
            Err(error) => panic!("{shown:.200}: {error}"),
        }
    }

    /// Starts writing a file.
    pub(crate) async fn create(&self, path: &str) -> HandleId {
        let request = ClientRequest::Create {
            path: path.into(),
            replace: false,
            mode: 0o644,
            options: storage().options(),
        };
        match self.call(request).await {
            ClientResponse::Created { handle, .. } => handle,
            other => panic!("{other:?}"),
        }
    }

    /// Writes the content's bytes `from..to`.
    pub(crate) async fn write(&self, handle: HandleId, content: Content, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let data = content.bytes(at, 16_384.min(to - at));
            at += data.len() as u64;
            self.call(ClientRequest::Write { handle, data }).await;
        }
    }

    /// Finishes a file.
    pub(crate) async fn close(&self, handle: HandleId) {
        self.call(ClientRequest::Close { handle }).await;
    }

    /// Waits.
    pub(crate) async fn pass(&self, ms: u64) {
        self.world.sleep(Span::from_ms(ms)).await;
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(self.world.eventually(Span::from_ms(60_000), condition).await, "never: {what}");
    }

    /// Waits until disks and master agree that everything is as it should be.
    pub(crate) async fn until_whole(&self) {
        convergence::check(&self.cluster, &self.violations).await;
        let broken = self.violations.take();
        assert_eq!(broken, []);
    }

    /// What these checkers found so far was to be expected: the story itself broke the promise.
    pub(crate) fn admits(&self, checkers: &[&str]) {
        let found = self.violations.take();
        assert!(found.iter().all(|v| checkers.contains(&v.checker.as_str())), "{found:?}");
    }

    /// A server that holds chunk files, with one of them: `(server, volume, path, length)`.
    pub(crate) fn some_replica(&self) -> (String, u16, String, u64) {
        let servers = self.cluster.server_names();
        servers
            .into_iter()
            .find_map(|server| {
                let files = self.cluster.chunk_files(&server);
                files.into_iter().next().map(|(volume, path, length, _)| (server, volume, path, length))
            })
            .expect("no server holds a chunk")
    }
}
