"""The variational autoencoder of Keras' example, on Fashion-MNIST: prints the seconds of the second epoch.

    python -m bench.others.keras_vae FOLDER IMAGES

Batches of 128, Adam at 1e-3; the first epoch also builds the graph, and does not count.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from keras import layers, ops

from bench.others.fashion import read

x = (read(sys.argv[1], "train-images-idx3")[: int(sys.argv[2])] / 255.0).astype("float32")[..., None]
keras.utils.set_random_seed(0)
inputs = keras.Input((28, 28, 1))
hidden = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(inputs)
hidden = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(hidden)
hidden = layers.Dense(16, activation="relu")(layers.Flatten()(hidden))
encoder = keras.Model(inputs, [layers.Dense(2)(hidden), layers.Dense(2)(hidden)])
codes = keras.Input((2,))
hidden = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(codes))
hidden = layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu")(hidden)
hidden = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(hidden)
decoder = keras.Model(codes, layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(hidden))


class Vae(keras.Model):
    """Encoder and decoder, with the loss in the step."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.of = {name: keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")}

    @property
    def metrics(self):
        return list(self.of.values())

    def train_step(self, x):
        with tf.GradientTape() as tape:
            mean, log_variance = self.encoder(x)
            z = mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean))
            told = ops.sum(keras.losses.binary_crossentropy(x, self.decoder(z)), axis=(1, 2))
            kl = ops.sum(-0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance)), axis=1)
            loss = ops.mean(told + kl)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        for name, value in {"loss": loss, "reconstruction": ops.mean(told), "kl": ops.mean(kl)}.items():
            self.of[name].update_state(value)
        return {name: metric.result() for name, metric in self.of.items()}


model = Vae()
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(x, epochs=1, batch_size=128, verbose=0)
started = time.perf_counter()
model.fit(x, epochs=1, batch_size=128, verbose=0)
print(time.perf_counter() - started)
