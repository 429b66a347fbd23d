"""Optuna studies that are resumed: killed trials are asked again, finished ones count."""

import logging
import warnings

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from optuna.trial import FrozenTrial, TrialState

from denoiser.errors import DenoiserError

ASKED_AGAIN = "asked again"  # an attribute of the study: numbers of the trials that another trial repeats


class Storage(optuna.storages.RDBStorage):
    """Optuna's database storage, with an error of one line for a study in which every run failed."""

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        if not self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,)):
            raise DenoiserError("no run of this sweep finished; each says why, above and in its run.json")
        return super().get_best_trial(study_id)


def resume(config: DictConfig, alone: bool) -> None:
    """Reduce the sweeper's ``n_trials``, the number for the whole study, by those that are done.

    Where this process works ``alone`` on the study, a trial in state RUNNING was killed: it fails, and its parameters
    are queued again, so that its run is resumed in its folder.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # enqueue_trial() is experimental in Optuna 2.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    sweeper = config.hydra.sweeper
    storage = instantiate(sweeper.storage) if OmegaConf.is_config(sweeper.storage) else str(sweeper.storage)
    try:
        study = optuna.load_study(study_name=str(sweeper.study_name), storage=storage)
    except KeyError:
        return
    killed = study.get_trials(states=(TrialState.RUNNING,)) if alone else []
    repeated = {*study.user_attrs.get(ASKED_AGAIN, ()), *(trial.number for trial in killed)}
    study.set_user_attr(ASKED_AGAIN, sorted(repeated))
    for trial in killed:
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    asked = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    done = len(asked) - len(repeated)
    with read_write(config), open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - done)
    print(f"study {study.study_name}: {done} trials done or under way, {sweeper.n_trials} to go")
