"""Fashion-MNIST with Keras: 784-300-100-10, SGD 1e-3, batch 32, five epochs with validation, then the test images.

With a checkpoint of the best epoch, which the test is of. The textbook's notebook has a TensorBoard callback besides;
here both sides go without one. A plain line an epoch, as ours prints without a terminal.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from bench.others.fashion import standardized

(x, y), val, (x_test, y_test) = standardized(sys.argv[1])
keras.utils.set_random_seed(42)
model = keras.Sequential([keras.layers.Input((28, 28)), keras.layers.Flatten()])
for width in (300, 100):
    model.add(keras.layers.Dense(width, kernel_initializer="he_normal"))
    model.add(keras.layers.LeakyReLU())  # its slope is 0.3 by default
model.add(keras.layers.Dense(10, activation="softmax"))
model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.SGD(1e-3), metrics=["accuracy"])
with tempfile.TemporaryDirectory() as folder:
    best = keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True)
    started = time.perf_counter()
    model.fit(x, y, batch_size=32, epochs=5, validation_data=val, callbacks=[best], verbose=2)
    seconds = time.perf_counter() - started
    model = keras.models.load_model(f"{folder}/best.keras")
print(model.evaluate(x_test, y_test, verbose=0))
print(seconds)
