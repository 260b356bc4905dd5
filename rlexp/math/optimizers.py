"""Optimisers as pure functions on one flat parameter vector of one trial.

Keras' TensorFlow backend has no stateless optimiser update, and its optimisers take one learning rate for
all variables. The engines map a whole update over trials, each with its own scheduled learning rate, so the
update rules of `keras.optimizers` stand here without variables; the tests hold them to Keras step by step.
The names of hyper-parameters and of state entries are Keras' own.

    optimizer = build("adam", beta_1=0.9)
    state = optimizer.init(params)                                          # {str: Tensor}
    params, state = optimizer.update(params, grad, state, learning_rate)    # [P], {str: Tensor}

Axes: `P` parameters.
"""

from __future__ import annotations

import abc
import dataclasses
import difflib
import numbers

import tensorflow as tf

State = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """An update rule; its fields are its hyper-parameters, its state is passed in and out.

    Raises:
        ValueError: when a hyper-parameter has the wrong type or lies outside its range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(type(self).__name__, field.name, getattr(self, field.name), field.default)

    @abc.abstractmethod
    def init(self, params: tf.Tensor) -> State:
        """Returns the state before the first update, with only the entries that the options need.

        Args:
            params: float32 parameters of one trial.  # [P]
        """

    @abc.abstractmethod
    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        """Takes one step down the gradient.

        Args:
            params: float32 parameters of one trial.  # [P]
            grad: gradient of the loss in `params`.  # [P]
            state: what `init` or the last `update` returned.
            learning_rate: this update's learning rate.  # []

        Returns:
            The new parameters and the new state.  # [P], {str: Tensor}
        """


@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with optional momentum; source: `keras.optimizers.SGD`.

    momentum > 0:   m <- momentum m - lr g;   w <- w + m,   or with `nesterov`   w <- w + momentum m - lr g

    Args:
        momentum: share of the last step that is kept, in [0, 1). Default 0.
        nesterov: look ahead by one momentum step. Needs `momentum` > 0 (Keras ignores it without).
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0.0:
            raise ValueError(
                "SGD: nesterov=True needs momentum > 0, received momentum=0.0. "
                "Give a momentum (0.9 is usual) or leave nesterov out."
            )

    def init(self, params: tf.Tensor) -> State:
        return {"momentum": tf.zeros_like(params)} if self.momentum > 0 else {}

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        step = grad * learning_rate  # [P]
        if self.momentum == 0:
            return params - step, {}
        momentum = self.momentum * state["momentum"] - step  # [P]
        params += self.momentum * momentum - step if self.nesterov else momentum
        return params, {"momentum": momentum}


@dataclasses.dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Hinton, 2012); source: `keras.optimizers.RMSprop`.

    v <- rho v + (1 - rho) g^2;   w <- w - lr g / sqrt(v + epsilon)

    Args:
        rho: decay of the running averages, in [0, 1). Default 0.9.
        momentum: share of the last step that is kept, in [0, 1). Default 0: none.
        epsilon: added under the root (not beside it, as in Adam). Default 1e-7.
        centered: take the square of the running mean gradient from v, which leaves its variance. Default
        False.
    """

    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def init(self, params: tf.Tensor) -> State:
        names = ["velocity"] + ["momentum"] * (self.momentum > 0) + ["average_gradient"] * self.centered
        return {name: tf.zeros_like(params) for name in names}

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        new = {"velocity": self.rho * state["velocity"] + (1 - self.rho) * tf.square(grad)}  # [P]
        variance = new["velocity"]  # [P]
        if self.centered:
            new["average_gradient"] = self.rho * state["average_gradient"] + (1 - self.rho) * grad  # [P]
            variance -= tf.square(new["average_gradient"])
        step = learning_rate * grad / tf.sqrt(variance + self.epsilon)  # [P]
        if self.momentum > 0:
            step = new["momentum"] = self.momentum * state["momentum"] + step  # [P]
        return params - step, new


@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014), the form before section 2.1; source: `keras.optimizers.Adam`.

    m <- beta_1 m + (1 - beta_1) g;   v <- beta_2 v + (1 - beta_2) g^2
    w <- w - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    Args:
        beta_1: decay of the first moment, in [0, 1). Default 0.9.
        beta_2: decay of the second moment, in [0, 1). Default 0.999.
        epsilon: added to the root: the "epsilon hat" of the paper. Default 1e-7.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def init(self, params: tf.Tensor) -> State:
        # A float counter stops at 2^24 updates; both powers are zero in float32 long before.
        zeros = tf.zeros_like(params)
        return {"step": tf.zeros((), params.dtype), "momentum": zeros, "velocity": zeros}

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        step = state["step"] + 1.0  # []
        unbias = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))  # []
        momentum = state["momentum"] + (grad - state["momentum"]) * (1 - self.beta_1)  # [P]
        velocity = state["velocity"] + (tf.square(grad) - state["velocity"]) * (1 - self.beta_2)  # [P]
        params -= momentum * (learning_rate * unbias) / (tf.sqrt(velocity) + self.epsilon)
        return params, {"step": step, "momentum": momentum, "velocity": velocity}


@dataclasses.dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov momentum and a warm-up of beta_1 (Dozat, 2015); source: `keras.optimizers.Nadam`.

    u_t = beta_1 (1 - 0.96^t / 2);   U_t = u_1 u_2 ... u_t;   m and v as in Adam
    w <- w - lr (u_{t+1} m / (1 - U_{t+1}) + (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Args: those of `Adam`.
    """

    def init(self, params: tf.Tensor) -> State:
        return {**super().init(params), "u_product": tf.ones((), params.dtype)}

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        # Keras forms 1 - beta in float32 here and in float64 in Adam: the last bits of beta_2 matter.
        beta_1, beta_2 = tf.constant(self.beta_1, params.dtype), tf.constant(self.beta_2, params.dtype)
        step = state["step"] + 1.0  # []
        u_t = beta_1 * (1.0 - 0.5 * tf.pow(0.96, step))  # []
        u_next = beta_1 * (1.0 - 0.5 * tf.pow(0.96, step + 1.0))  # []
        u_product = state["u_product"] * u_t  # []
        momentum = state["momentum"] + (grad - state["momentum"]) * (1.0 - beta_1)  # [P]
        velocity = state["velocity"] + (tf.square(grad) - state["velocity"]) * (1.0 - beta_2)  # [P]
        m_hat = u_next * momentum / (1.0 - u_product * u_next) + (1.0 - u_t) * grad / (1.0 - u_product)  # [P]
        v_hat = velocity / (1.0 - tf.pow(beta_2, step))  # [P]
        params -= m_hat * learning_rate / (tf.sqrt(v_hat) + self.epsilon)
        return params, {"step": step, "momentum": momentum, "velocity": velocity, "u_product": u_product}


@dataclasses.dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); source: `keras.optimizers.AdamW`.

    w <- w - lr weight_decay w;   then a step of Adam

    Args: those of `Adam`, and
        weight_decay: share of the weights that an update with learning rate 1 would take away, in [0, 1). Default
        0.004.
    """

    weight_decay: float = 0.004

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        return super().update(params - params * (self.weight_decay * learning_rate), grad, state, learning_rate)


@dataclasses.dataclass(frozen=True)
class RAdam(Adam):
    """Rectified Adam (Liu et al., 2020, algorithm 2); Keras has none, and the reference is the paper's.

        rho_inf = 2 / (1 - beta_2) - 1;   rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t);   m and v as in Adam
        rho_t > 5:   w <- w - lr r_t m_hat sqrt(1 - beta_2^t) / (sqrt(v) + epsilon)
                     r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
        else:        w <- w - lr m_hat      (the variance of few gradients is not known)

    Deviation: rectified from rho_t > 5 on, as PyTorch and Optax have it; the paper says 4.

    Args: those of `Adam`; `beta_2` above 2/3, since no step would be rectified otherwise.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta_2 > 2 / 3:
            raise ValueError(f"RAdam: beta_2 must be above 2/3, received {self.beta_2!r}: no step would be rectified.")

    def update(
        self, params: tf.Tensor, grad: tf.Tensor, state: State, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, State]:
        step = state["step"] + 1.0  # []
        momentum = state["momentum"] + (grad - state["momentum"]) * (1 - self.beta_1)  # [P]
        velocity = state["velocity"] + (tf.square(grad) - state["velocity"]) * (1 - self.beta_2)  # [P]
        m_hat = momentum / (1.0 - tf.pow(self.beta_1, step))  # [P]
        power = tf.pow(self.beta_2, step)  # []
        limit = 2.0 / (1.0 - self.beta_2) - 1.0
        length = limit - 2.0 * step * power / (1.0 - power)  # [], how many gradients the average is of
        ready = length > 5.0
        known = tf.where(ready, length, 6.0)  # a root of a negative number must not be taken, not even to be left out
        rectified = tf.sqrt((known - 4.0) * (known - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * known))
        adaptive = rectified * tf.sqrt(1.0 - power) * m_hat / (tf.sqrt(velocity) + self.epsilon)  # [P]
        params -= learning_rate * tf.where(ready, adaptive, m_hat)
        return params, {"step": step, "momentum": momentum, "velocity": velocity}


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "radam": RAdam,
}


def build(name: str, **hyperparameters: float | bool) -> Optimizer:
    """Returns the optimiser `name` of OPTIMIZERS; hyper-parameters that are not given have Keras' defaults.

    Raises:
        ValueError: when the name or a hyper-parameter is unknown, of the wrong type or out of range.
    """
    if name not in OPTIMIZERS:
        near = difflib.get_close_matches(str(name).lower(), OPTIMIZERS, n=1)
        raise ValueError(
            f"Unknown optimizer: expected one of {', '.join(OPTIMIZERS)}; received {name!r}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    expected = [field.name for field in dataclasses.fields(OPTIMIZERS[name])]
    unknown = [key for key in hyperparameters if key not in expected]
    if unknown:
        raise ValueError(
            f"Optimizer {name!r} has the hyper-parameters {', '.join(expected)}; received "
            f"{', '.join(unknown)}. Remove or rename what is unknown (a learning rate is given "
            "to each update instead, and gradients are clipped by clip_by_global_norm)."
        )
    return OPTIMIZERS[name](**hyperparameters)


def clip_by_global_norm(grad: tf.Tensor, clip_norm: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales a gradient that is longer than `clip_norm` down to that Euclidean norm (Pascanu et al., 2013).

    A gradient whose norm is not finite comes back as NaN throughout, as in Keras' `global_clipnorm`: dividing
    by an infinite norm would make it zero, and a trial that has diverged would look like one at rest.

    Args:
        grad: gradient of one trial.  # [P]
        clip_norm: greatest norm that is let through, > 0.

    Returns:
        The clipped gradient, and the norm before clipping.  # [P], []

    Raises:
        ValueError: when `clip_norm` is not a positive number.
    """
    if not clip_norm > 0:
        raise ValueError(
            f"clip_norm: expected a number > 0, received {clip_norm!r}. For no clipping, do not call this function."
        )
    norm = tf.sqrt(tf.reduce_sum(tf.square(grad)))  # []
    scale = clip_norm / tf.maximum(norm, clip_norm)  # [], exactly 1 when nothing is clipped
    return grad * tf.where(tf.math.is_finite(norm), scale, float("nan")), norm


def _check(optimizer: str, name: str, value: object, default: object) -> None:
    """Refuses a hyper-parameter that is not of its default's type, or that is out of range."""
    if isinstance(default, bool):
        expected, good = "true or false", isinstance(value, bool)
    else:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        number = float(value) if is_number else float("nan")  # type: ignore[arg-type]
        if name == "epsilon":
            expected, good = "a number > 0", 0.0 < number < float("inf")
        else:
            expected, good = "a number in [0, 1)", 0.0 <= number < 1.0
    if not good:
        raise ValueError(f"{optimizer}: {name} must be {expected}, received {value!r} ({type(value).__name__}).")


def step(
    optimizer: Optimizer, params: tf.Tensor, grad: tf.Tensor, state: State, lr: tf.Tensor, clip_norm: float | None
) -> tuple[tf.Tensor, State, tf.Tensor]:
    """One step down a gradient [P], clipped unless `clip_norm` is None; the new parameters, the new state, the norm."""
    if clip_norm is None:
        norm = tf.norm(grad)
    else:
        grad, norm = clip_by_global_norm(grad, clip_norm)
    return *optimizer.update(params, grad, state, lr), norm
