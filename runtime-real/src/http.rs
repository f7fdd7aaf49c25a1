//! `/health` and `/metrics` of a daemon.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cairn_core::stats::{MetricKind, Metrics};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

use crate::daemon::{Health, Hosted};

/// A machine that does not answer in this time is not healthy.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves until aborted.
pub(crate) async fn serve(listener: TcpListener, hosted: Arc<dyn Hosted>) {
    let routes =
        Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(hosted);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("http: {error}");
    }
}

async fn ask(hosted: &Arc<dyn Hosted>) -> Result<Health, String> {
    match tokio::time::timeout(PATIENCE, hosted.health()).await {
        Ok(Some(health)) => Ok(health),
        Ok(None) => Err("stopped".into()),
        Err(_) => Err("no answer from the machine".into()),
    }
}

async fn health(State(hosted): State<Arc<dyn Hosted>>) -> (StatusCode, String) {
    match ask(&hosted).await {
        Ok((_, Ok(()))) => (StatusCode::OK, "ok\n".into()),
        Ok((_, Err(reason))) | Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(hosted): State<Arc<dyn Hosted>>) -> Response {
    match ask(&hosted).await {
        Ok((figures, ready)) => {
            let text = render(&figures, ready.is_ok());
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Figures in Prometheus's text format. Each scrape has its own recorder: what a machine no longer reports disappears.
fn render(figures: &Metrics, ready: bool) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let about = Metadata::new("cairn", Level::INFO, None);
    let gauge = |name: &'static str, help: &'static str, value: f64| {
        recorder.describe_gauge(name.into(), None, help.into());
        recorder.register_gauge(&Key::from_static_name(name), &about).set(value);
    };
    gauge("cairn_ready", "1 while requests are served.", f64::from(u8::from(ready)));
    if let Some(bytes) = resident_bytes() {
        gauge("process_resident_memory_bytes", "Memory of this process.", bytes as f64);
    }
    for figure in figures {
        let labels: Vec<Label> =
            figure.label.iter().map(|(key, value)| Label::new(key.clone(), value.clone())).collect();
        let key = Key::from_parts(figure.name.clone(), labels);
        let (name, help) = (figure.name.clone().into(), figure.help.clone().into());
        match figure.kind {
            MetricKind::Counter => {
                recorder.describe_counter(name, None::<Unit>, help);
                recorder.register_counter(&key, &about).absolute(figure.value as u64);
            }
            MetricKind::Gauge => {
                recorder.describe_gauge(name, None::<Unit>, help);
                recorder.register_gauge(&key, &about).set(figure.value);
            }
        }
    }
    recorder.handle().render()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use cairn_core::stats::Metric;

    use super::*;

    #[test]
    fn figures_are_rendered_with_help_type_and_label() {
        let figure = |name: &str, label: Option<(&str, &str)>, kind, value| Metric {
            name: name.into(),
            label: label.map(|(key, value)| (key.into(), value.into())),
            kind,
            help: "Something counted.".into(),
            value,
        };
        let text = render(
            &vec![
                figure("cairn_appends_total", None, MetricKind::Counter, 3.0),
                figure("cairn_free_bytes", Some(("volume", "1")), MetricKind::Gauge, 7.0),
            ],
            true,
        );
        for line in [
            "# HELP cairn_appends_total Something counted.",
            "# TYPE cairn_appends_total counter",
            "cairn_appends_total 3",
            "cairn_free_bytes{volume=\"1\"} 7",
            "cairn_ready 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
