"""The GAN of Keras' example, on Fashion-MNIST: prints the seconds of the second epoch.

    python -m bench.others.keras_dcgan FOLDER IMAGES

Batches of 64, Adam at 3e-4 for both; the first epoch also builds the graph, and does not count.
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

LATENT = 128
x = (read(sys.argv[1], "train-images-idx3")[: int(sys.argv[2])] / 255.0).astype("float32")[..., None]
keras.utils.set_random_seed(0)
discriminator = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        *(layers.Conv2D(64, 3, strides=2, padding="same"), layers.LeakyReLU(negative_slope=0.2)),
        *(layers.Conv2D(128, 3, strides=2, padding="same"), layers.LeakyReLU(negative_slope=0.2)),
        *(layers.GlobalMaxPooling2D(), layers.Dense(1)),
    ]
)
generator = keras.Sequential(
    [
        keras.Input((LATENT,)),
        *(layers.Dense(7 * 7 * 128), layers.LeakyReLU(negative_slope=0.2), layers.Reshape((7, 7, 128))),
        *(layers.Conv2DTranspose(128, 4, strides=2, padding="same"), layers.LeakyReLU(negative_slope=0.2)),
        *(layers.Conv2DTranspose(128, 4, strides=2, padding="same"), layers.LeakyReLU(negative_slope=0.2)),
        layers.Conv2D(1, 7, padding="same", activation="sigmoid"),
    ]
)
assert (generator.count_params(), discriminator.count_params()) == (1_339_905, 74_625)


class Gan(keras.Model):
    """The discriminator first, on generated and real images together, then the generator."""

    def __init__(self):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.of = {name: keras.metrics.Mean(name=name) for name in ("discriminator", "generator")}
        self.each = [keras.optimizers.Adam(3e-4), keras.optimizers.Adam(3e-4)]

    @property
    def metrics(self):
        return list(self.of.values())

    def train_step(self, real):
        n, loss = ops.shape(real)[0], keras.losses.BinaryCrossentropy(from_logits=True)
        made = self.generator(keras.random.normal((n, LATENT)))
        labels = ops.concatenate([ops.ones((n, 1)), ops.zeros((n, 1))], axis=0)
        labels = labels + 0.05 * keras.random.uniform(ops.shape(labels))
        with tf.GradientTape() as tape:
            of_discriminator = loss(labels, self.discriminator(ops.concatenate([made, real], axis=0)))
        weights = self.discriminator.trainable_weights
        self.each[0].apply_gradients(zip(tape.gradient(of_discriminator, weights), weights, strict=True))
        codes = keras.random.normal((n, LATENT))
        with tf.GradientTape() as tape:
            of_generator = loss(ops.zeros((n, 1)), self.discriminator(self.generator(codes)))
        weights = self.generator.trainable_weights
        self.each[1].apply_gradients(zip(tape.gradient(of_generator, weights), weights, strict=True))
        self.of["discriminator"].update_state(of_discriminator)
        self.of["generator"].update_state(of_generator)
        return {name: metric.result() for name, metric in self.of.items()}


model = Gan()
model.compile()
model.fit(x, epochs=1, batch_size=64, verbose=0)
started = time.perf_counter()
model.fit(x, epochs=1, batch_size=64, verbose=0)
print(time.perf_counter() - started)
