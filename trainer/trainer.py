# SPDX-License-Identifier: MIT
"""What every training run needs: AdamW with warm-up and a final decay, a JSON-lines log, an ETA, resuming."""

import concurrent.futures
import ctypes
import json
import os
import sys
import time

import torch

LOG = "log.jsonl"
STATE = "state.pt"
LOG_SECONDS = 60.0
SMALL_STATE = 30.0    # seconds between two saves where a state file is small


def tune_allocator():
    """Let glibc keep freed blocks: fresh pages for every large activation cost more than the arithmetic on them."""
    if sys.platform == "linux":
        libc, trim_threshold, top_pad, mmap_max = ctypes.CDLL(None), -1, -2, -4
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 2**28)


def pick_device(name=None):
    """The named device, else CUDA where there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def fast_type(device, bf16=None):
    """bfloat16 where the device multiplies it fast (or bf16 asks for it), else float32."""
    if bf16 is None:
        bf16 = device.type == "cuda"
        if device.type == "cpu" and os.path.isfile("/proc/cpuinfo"):
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                bf16 = any(word in file.read() for word in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if bf16 else torch.float32


class Team:
    """Threads that work side by side, each with one thread of torch's own: on shared cores nobody waits for a slower twin."""

    def __init__(self, workers):
        self.pool = None
        if workers > 1:
            self.pool = concurrent.futures.ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, work, items):
        """[work(item)], in order."""
        return list(self.pool.map(work, items) if self.pool else map(work, items))


def set_gradients(module, found):
    """The mean of lists of gradients, each in the order of `module.parameters()`, becomes that of the parameters."""
    for parameter, parts in zip(module.parameters(), zip(*found)):
        parameter.grad = torch.stack(parts).mean(0)


def learning_rate(step, steps, peak, warmup, decay):
    """Linear warm-up over `warmup` steps, constant, linear to zero over the last fraction `decay` of `steps`."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = min(1.0, (steps - step) / max(1.0, decay * steps))
    return peak * rise * fall


def weight_groups(parameters, weight_decay=0.1, scale=1.0):
    """AdamW groups of the learned ones among `parameters`: matrices decay, vectors do not; `scale` is on the rate."""
    learned = [p for p in parameters if p.requires_grad]
    return [{"params": [p for p in learned if p.dim() > 1], "weight_decay": weight_decay, "scale": scale},
            {"params": [p for p in learned if p.dim() < 2], "weight_decay": 0.0, "scale": scale}]


class Trainer:
    """Owns the optimizer, the log and the state file of one run in one folder."""

    def __init__(self, model, folder, groups, *, peak, warmup=100, decay=0.2, bf16=None, save_every=120.0,
                 also=lambda: None):
        """model: what is saved and resumed, whole. groups: of `weight_groups`; peak: learning rate; save_every: seconds;
        also: called whenever the state is saved; bf16: autocast, by default on CUDA.
        """
        os.makedirs(folder, exist_ok=True)
        self.model, self.folder = model, folder
        self.peak, self.warmup, self.decay, self.save_every, self.also = peak, warmup, decay, save_every, also
        self.device = next(model.parameters()).device
        self.bf16 = self.device.type == "cuda" if bf16 is None else bf16
        self.optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
        self.step = 0
        self.tokens = 0
        self._resume()

    def _resume(self):
        path = os.path.join(self.folder, STATE)
        if not os.path.isfile(path):
            return
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens = state["step"], state["tokens"]
        print(f"resumed {path} at step {self.step}", file=sys.stderr)

    def save(self):
        """Write the state file; a half-written one never replaces a whole one."""
        path = os.path.join(self.folder, STATE)
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "step": self.step, "tokens": self.tokens}, path + ".new")
        os.replace(path + ".new", path)
        self.also()

    def run(self, steps, loss_of, log_every=20):
        """Train up to step `steps`, with a word every log_every steps and at least every LOG_SECONDS; loss_of(step) -> (loss, tokens seen, dict of numbers for the log).

        A loss without a graph has left its gradients in the parameters itself.
        """
        self.model.train()
        started, first, saved, told = time.time(), self.step, time.time(), time.time()
        with open(os.path.join(self.folder, LOG), "a", encoding="utf-8") as log:
            try:
                while self.step < steps:
                    record = self._step(steps, loss_of)
                    if self.step % log_every == 0 or self.step == steps or time.time() - told > LOG_SECONDS:
                        told = time.time()
                        seconds = time.time() - started
                        eta = seconds / (self.step - first) * (steps - self.step)
                        self._tell(log, {**record, "seconds": round(seconds, 1), "eta": round(eta)}, steps)
                    if time.time() - saved > self.save_every:
                        self.save()
                        saved = time.time()
            finally:
                self.save()

    def _step(self, steps, loss_of):
        """One update; what there is to tell about it."""
        rate = learning_rate(self.step, steps, self.peak, self.warmup, self.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss, tokens, extra = loss_of(self.step)
        if loss.requires_grad:
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{self.folder}: step {self.step}: gradient is not finite")
        self.optimizer.step()
        self.step += 1
        self.tokens += tokens
        return {"step": self.step, "tokens": self.tokens, "lr": rate, "loss": loss.item(), **extra,
                "grad_norm": norm.item()}

    @staticmethod
    def _tell(log, record, steps):
        log.write(json.dumps(record) + "\n")
        log.flush()
        shown = "  ".join(f"{key} {value:.4g}" for key, value in record.items()
                          if isinstance(value, (int, float)) and key not in ("step", "seconds", "eta"))
        print(f"step {record['step']}/{steps}  {shown}  eta {record['eta'] / 60:.0f} min", file=sys.stderr)
