"""Commands that run until they are told to stop."""

import typer

from cloud.cli.frame import Config, ReadyFile, State, faults_told
from cloud.settings import read_settings


def install(app: typer.Typer) -> None:
    for command in (serve, api, worker, sequencer, courier, warden):
        app.command()(command)


def serve(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """Everything in one process: the HTTP edge, a courier, and a worker where [broker] is set."""
    from cloud.logs import log_as_json
    from cloud.serving import serve

    with faults_told():
        log_as_json()
        serve(read_settings(config, state=state), ready_file)


def api(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """The HTTP edge alone; run workers beside it."""
    from cloud.logs import log_as_json
    from cloud.serving import serve_api

    with faults_told():
        log_as_json()
        serve_api(read_settings(config, state=state), ready_file)


def worker(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """One worker alone, on the shared subscription; each has a certificate of its own."""
    from cloud.alone import serve_worker
    from cloud.logs import log_as_json

    with faults_told():
        log_as_json()
        serve_worker(read_settings(config, state=state), ready_file)


def courier(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """One courier alone: sends letters, asks the card provider, ends what waited long enough."""
    from cloud.alone import serve_courier
    from cloud.logs import log_as_json

    with faults_told():
        log_as_json()
        serve_courier(read_settings(config, state=state), ready_file)


def sequencer(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """Takes audit records into the signed tree; of several, one works and the others stand by."""
    from cloud.alone import serve_sequencer
    from cloud.logs import log_as_json

    with faults_told():
        log_as_json()
        serve_sequencer(read_settings(config, state=state), ready_file)


def warden(config: Config = None, state: State = None, ready_file: ReadyFile = None) -> None:
    """Keeps the CRL fresh, ends revoked appliances' sessions; where the authority's folder is."""
    from cloud.alone import serve_warden
    from cloud.logs import log_as_json

    with faults_told():
        log_as_json()
        serve_warden(read_settings(config, state=state), ready_file)
