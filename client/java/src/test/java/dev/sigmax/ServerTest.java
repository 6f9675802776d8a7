package dev.sigmax;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sigmax.v1.ModelSummary;
import io.grpc.Status.Code;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** A server is asked what needs no model of a known name. */
@EnabledIfEnvironmentVariable(named = "SIGMAX_ADDRESS", matches = ".+")
class ServerTest {
  private static SigmaxClient client;

  @BeforeAll
  static void connect() {
    client = Servers.connect();
  }

  @AfterAll
  static void close() {
    client.close();
  }

  @Test
  void healthIsTold() {
    assertEquals(ServingStatus.SERVING, client.health());
  }

  @Test
  void everyModelOfTheListIsDescribed() {
    List<ModelSummary> models = client.models();
    assertFalse(models.isEmpty());
    for (ModelSummary model : models) {
      assertEquals(model.getName(), client.model(model.getName()).getName());
    }
  }

  @Test
  void anUnknownModelIsAnErrorWithItsReason() {
    var error =
        assertThrows(
            SigmaxException.class, () -> client.classify("nobody", Tensor.of(new float[] {0})));
    assertEquals(Code.NOT_FOUND, error.code());
    assertEquals("UNKNOWN_MODEL", error.reason());
    assertFalse(error.isRetryable());
  }

  @Test
  void aFutureHasTheSameError() {
    var future = client.classifyAsync("nobody", Tensor.of(new float[] {0}));
    var error = assertThrows(CompletionException.class, future::join);
    assertEquals(
        "UNKNOWN_MODEL", assertInstanceOf(SigmaxException.class, error.getCause()).reason());
  }

  @Test
  void aDeadlineThatPassedIsSaid() {
    var options = ClassifyOptions.builder().deadline(Duration.ofNanos(1)).build();
    var error =
        assertThrows(
            SigmaxException.class,
            () -> client.classify("nobody", options, Tensor.of(new float[] {0})));
    assertEquals(Code.DEADLINE_EXCEEDED, error.code());
  }
}
