"""Fashion-MNIST with Keras: 784-300-100-10, SGD 1e-3, batch 32, five epochs with validation, then the test images."""

from __future__ import annotations

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from bench.peers.fashion import standardized

(x, y), val, (x_test, y_test) = standardized()
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Input((28, 28)), keras.layers.Flatten()])
for width in (300, 100):
    model.add(keras.layers.Dense(width, kernel_initializer="he_normal"))
    model.add(keras.layers.LeakyReLU(negative_slope=0.3))
model.add(keras.layers.Dense(10, activation="softmax"))
model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.SGD(1e-3), metrics=["accuracy"])
started = time.perf_counter()
model.fit(x, y, batch_size=32, epochs=5, validation_data=val, verbose=2)
seconds = time.perf_counter() - started
print(model.evaluate(x_test, y_test, verbose=0))
print(seconds)
