package dev.sigmax;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Wrong options are refused before anything is sent. */
class ConnectTest {
  private static String refusal(SigmaxClient.Builder builder) {
    return assertThrows(IllegalArgumentException.class, builder::build).getMessage();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "localhost", "a:1,b:2", "http://localhost:8001", "::1:8001", "a:", "a b:1"})
  void whatIsNoAddressIsNamed(String address) {
    String said = refusal(SigmaxClient.builder(address));
    assertTrue(said.startsWith("address: expected HOST:PORT"), said);
    assertTrue(said.endsWith("got '" + address + "'"), said);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "localhost:8001",
        "127.0.0.1:8001",
        "[::1]:8001",
        "dns:///localhost:8001",
        "unix:/run/sigmax"
      })
  void aTokenGoesInPlaintextToThisMachine(String address) {
    SigmaxClient.builder(address).token("t").build().close();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sigmax.example:8001",
        "127.0.0.1.example:8001",
        "localhost.example:8001",
        "10.0.0.1:8001",
        "dns:///sigmax.example:8001",
        "dns://sigmax.example/localhost:8001"
      })
  void aTokenGoesByTlsToAnotherMachine(String address) {
    String said = refusal(SigmaxClient.builder(address).token("t"));
    assertTrue(said.startsWith("token: expected TLS"), said);
    SigmaxClient.builder(address).token("t").tls().build().close();
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "secret words", "secret\n", "secrät"})
  void whatIsNoTokenIsNotQuoted(String token) {
    var error =
        assertThrows(
            IllegalArgumentException.class, () -> SigmaxClient.builder("localhost:1").token(token));
    assertFalse(error.getMessage().contains("secr"), error.getMessage());
  }

  @Test
  void aMissingFileIsNamed(@TempDir Path folder) {
    Path missing = folder.resolve("ca.pem");
    String said = refusal(SigmaxClient.builder("localhost:1").trust(missing));
    assertTrue(said.contains(missing.toString()), said);
  }

  @Test
  void aFileWithoutPemIsNamed(@TempDir Path folder) throws Exception {
    Path wrong = Files.writeString(folder.resolve("ca.pem"), "no certificate");
    String said = refusal(SigmaxClient.builder("localhost:1").trust(wrong));
    assertTrue(said.contains(wrong.toString()), said);
  }
}
