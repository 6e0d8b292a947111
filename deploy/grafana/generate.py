#!/usr/bin/env python3
"""Writes the dashboards beside it. A dashboard is rows of panels; a panel is a title, a unit and its queries."""
import json
import pathlib

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "[$__rate_interval]"
UP = 'upstream=~"$upstream"'


def quantile(q, name, by, labels=""):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({name}_bucket{{{labels}}}{RATE})))"


def rate(name, by, labels=""):
    return f"sum by ({by}) (rate({name}{{{labels}}}{RATE}))"


OVERVIEW = [
    ("Requests by route", "reqps", [(rate("http_server_request_duration_seconds_count", "http_route"), "{{http_route}}")]),
    ("Errors by route and status", "reqps", [(rate("http_server_request_duration_seconds_count", "http_route, http_response_status_code", 'http_response_status_code=~"5.."'), "{{http_route}} {{http_response_status_code}}")]),
    ("98th percentile by route", "s", [(quantile(0.98, "http_server_request_duration_seconds", "http_route"), "{{http_route}}")]),
    ("How exchanges end", "reqps", [(rate("tidegate_exchanges_total", "outcome"), "{{outcome}}")]),
    ("Client connections", "short", [("sum by (listener) (tidegate_connections)", "{{listener}}")]),
    ("Headroom by upstream", "percentunit", [("tidegate_upstream_headroom_ratio", "{{upstream}}")]),
    ("CPU of the proxy for each request", "s", [(f"sum(rate(process_cpu_seconds_total{{job=\"tidegate\"}}{RATE})) / sum(rate(tidegate_exchanges_total{RATE}))", "CPU")]),
    ("Delay of the event loops", "s", [(f"sum by (worker) (rate(tidegate_event_loop_late_seconds_total{RATE})) / sum by (worker) (rate(tidegate_event_loop_beats_total{RATE}))", "worker {{worker}}")]),
    ("Records lost", "short", [(f"sum(increase(tidegate_exchanges_dropped_total{RATE}))", "exchanges"), (f"sum(increase(tidegate_access_log_lines_dropped_total{RATE}))", "log lines")]),
]
UPSTREAM = [
    *((f"{phase}: {what}", "s", [(quantile(q, "tidegate_phase_duration_seconds", "upstream", f'{UP},phase="{phase}"'), "{{upstream}} p" + f"{q * 100:g}") for q in (0.5, 0.98, 0.99)]) for phase, what in (
        ("receive", "the client sends"), ("decide", "Tidegate thinks"), ("queue", "waiting for a slot"), ("connect", "making a connection"),
        ("wait", "to the first byte of the answer"), ("body", "the upstream sends"), ("deliver", "the client reads"))),
    ("Where the time goes", "s", [(f"sum by (phase) (rate(tidegate_phase_duration_seconds_sum{{{UP}}}{RATE})) / ignoring (phase) group_left sum(rate(tidegate_phase_duration_seconds_count{{{UP},phase=\"wait\"}}{RATE}))", "{{phase}}")]),
    ("98th percentile by endpoint", "s", [(quantile(0.98, "http_client_request_duration_seconds", "endpoint", UP), "{{endpoint}}")]),
    ("Endpoints in use", "short", [(f"sum by (upstream) (tidegate_endpoint_healthy{{{UP}}})", "{{upstream}}")]),
]
CLIENTS = [
    ("Requests by client", "reqps", [(f"topk(10, {rate('tidegate_client_requests_total', 'client', UP)})", "{{client}}")]),
    ("Upstream time by client", "percentunit", [(f"topk(10, {rate('tidegate_client_upstream_seconds_total', 'client', UP)})", "{{client}}")]),
    ("Share at peak, who borrows", "percentunit", [(f"topk(10, tidegate_client_peak_share_ratio{{{UP}}})", "{{client}} {{upstream}}")]),
    ("Refused by reason and tier", "reqps", [(rate("tidegate_rejected_total", "reason, tier, mode"), "{{reason}} {{tier}} {{mode}}")]),
]
PROTECTION = [
    ("In flight and its limit", "short", [(f"tidegate_inflight{{{UP}}}", "{{upstream}} in flight"), (f"tidegate_concurrency_limit{{{UP}}}", "{{upstream}} limit")]),
    ("Waiting for a slot", "short", [(f"tidegate_queue_depth{{{UP}}}", "{{upstream}}")]),
    ("Time in the queue, 98th percentile", "s", [(quantile(0.98, "tidegate_queue_wait_seconds", "upstream", UP), "{{upstream}}")]),
    ("Breakers that are not closed", "short", [(f'tidegate_breaker_state{{{UP},state!="closed"}}', "{{upstream}} {{state}}")]),
    ("Changes of breakers", "short", [(f"sum by (upstream, to) (increase(tidegate_breaker_transitions_total{{{UP}}}{RATE}))", "{{upstream}} to {{to}}")]),
    ("Sent again", "reqps", [(rate("tidegate_retries_total", "upstream, reason", UP), "{{upstream}} {{reason}}")]),
    ("Left of the retry budget", "percentunit", [(f"tidegate_retry_budget_remaining_ratio{{{UP}}}", "{{upstream}}")]),
    ("Ejections", "short", [(f"sum by (upstream) (increase(tidegate_ejections_total{{{UP}}}{RATE}))", "{{upstream}}")]),
    ("Decisions of rate limits", "reqps", [(rate("tidegate_rate_limit_decisions_total", "policy, decision, mode"), "{{policy}} {{decision}} {{mode}}")]),
]
CACHE = [
    ("Requests by result", "reqps", [(rate("tidegate_cache_requests_total", "cache, result"), "{{cache}} {{result}}")]),
    ("Hit ratio", "percentunit", [(f'sum by (cache) (rate(tidegate_cache_requests_total{{result=~"hit|stale"}}{RATE})) / sum by (cache) (rate(tidegate_cache_requests_total{RATE}))', "{{cache}}")]),
    ("Size", "bytes", [("sum by (cache, tier) (tidegate_cache_bytes)", "{{cache}} {{tier}}")]),
]


def variable(name, label, query=None):
    if query is None:
        return {"name": name, "label": label, "type": "datasource", "query": "prometheus", "current": {}, "hide": 0}
    return {"name": name, "label": label, "type": "query", "datasource": DATASOURCE, "query": {"query": query, "refId": name}, "definition": query,
            "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "sort": 1, "hide": 0}


def panel(index, title, unit, queries):
    targets = [{"refId": chr(65 + i), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "editorMode": "code", "range": True, "exemplar": "_bucket" in expr}
               for i, (expr, legend) in enumerate(queries)]
    return {"id": index + 1, "type": "timeseries", "title": title, "datasource": DATASOURCE, "targets": targets,
            "gridPos": {"h": 8, "w": 12, "x": 12 * (index % 2), "y": 8 * (index // 2)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "spanNulls": False}}, "overrides": []},
            "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}}}


def dashboard(name, title, panels):
    incidents = {"name": "Incidents", "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": "red", "expr": "tidegate_incident_active > 0",
                 "titleFormat": "Incident: {{cause}}", "step": "10s"}
    reloads = {"name": "Reloads", "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": "blue", "expr": "changes(tidegate_config_reloads_total[1m]) > 0",
               "titleFormat": "Reload: {{result}}", "step": "10s"}
    whole = {"uid": f"tidegate-{name}", "title": f"Tidegate: {title}", "tags": ["tidegate"], "schemaVersion": 39, "editable": True, "refresh": "10s", "timezone": "browser",
             "time": {"from": "now-1h", "to": "now"}, "annotations": {"list": [incidents, reloads]},
             "templating": {"list": [variable("datasource", "Data source"), variable("upstream", "Upstream", "label_values(tidegate_inflight, upstream)")]},
             "links": [{"type": "dashboards", "tags": ["tidegate"], "title": "Tidegate", "asDropdown": True, "includeVars": True, "keepTime": True}],
             "panels": [panel(i, *it) for i, it in enumerate(panels)]}
    path = pathlib.Path(__file__).parent / "dashboards" / f"{name}.json"
    path.write_text(json.dumps(whole, indent=1) + "\n")


dashboard("overview", "overview", OVERVIEW)
dashboard("upstream", "an upstream by phase", UPSTREAM)
dashboard("clients", "clients and peak borrowing", CLIENTS)
dashboard("protection", "limits, breakers and queues", PROTECTION)
dashboard("cache", "cache", CACHE)
