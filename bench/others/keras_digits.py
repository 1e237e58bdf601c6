"""The digits CNN with Keras: convolution of 10, pool, dense 50, L2 1e-3, SGD 1e-2, batch 100, 100 silent epochs."""

from __future__ import annotations

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits()
labels = keras.utils.to_categorical(digits.target)
split = train_test_split(digits.images[..., None], labels, train_size=0.8, random_state=0)
x, x_test, y, y_test = split
keras.utils.set_random_seed(0)
l2 = keras.regularizers.L2(1e-3)
model = keras.Sequential(
    [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(10, 3, padding="same", activation="relu", kernel_regularizer=l2),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(50, activation="relu", kernel_regularizer=l2),
        keras.layers.Dense(10, activation="softmax", kernel_regularizer=l2),
    ]
)
model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.SGD(1e-2), metrics=["accuracy"])
started = time.perf_counter()
model.fit(x, y, epochs=100, batch_size=100, verbose=0)
seconds = time.perf_counter() - started
print(model.evaluate(x_test, y_test, verbose=0))
print(seconds)
