"""A study of Optuna's that goes on: what was under way when it was killed is asked for again, what is done counts."""

from __future__ import annotations

import logging
import warnings

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

AGAIN = "asked again"  # of a trial that another one repeats


def resume(config: DictConfig, alone: bool) -> None:
    """Set the sweeper's ``n_trials``, which is meant for the whole study, to what is left of it.

    ``alone`` says that no other process works on the sweep. What is still noted as under way was killed then: it is
    queued again with the same parameters, so that its run is resumed in its folder. Without a study nothing is done.
    """
    import optuna
    from optuna.trial import TrialState

    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of enqueue_trial

    sweeper = config.hydra.sweeper
    storage = instantiate(sweeper.storage) if OmegaConf.is_config(sweeper.storage) else str(sweeper.storage)
    try:
        study = optuna.load_study(study_name=str(sweeper.study_name), storage=storage)
    except KeyError:
        return
    for trial in study.get_trials(states=(TrialState.RUNNING,)) if alone else []:
        study._storage.set_trial_user_attr(trial._trial_id, AGAIN, True)  # a study has no way to say it of old trials
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    trials = study.get_trials(deepcopy=False)
    done = [t for t in trials if t.state != TrialState.WAITING and AGAIN not in t.user_attrs]
    with read_write(config), open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - len(done))
    print(f"study {study.study_name}: {len(done)} trials done or under way, {sweeper.n_trials} to go")
