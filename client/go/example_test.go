package sigmax_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	sigmax "sigmax.dev/go"
)

func Example() {
	client, err := sigmax.Connect("localhost:8001")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	// A lynx: mass, length, temperature, young, days, years.
	row := sigmax.Row[float32]{22, 100, 38, 3, 70, 15}
	result, err := client.Classify(context.Background(), "animal", row)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Rows[0].Label, result.Rows[0].Probability)
}

func ExampleClient_Classify_batch() {
	client, err := sigmax.Connect("localhost:8001", sigmax.WithTimeout(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	rows := sigmax.Rows[float32]{{22, 100, 38, 3, 70, 15}, {4000, 600, 36, 1, 650, 65}}
	result, err := client.Classify(context.Background(), "animal", rows,
		sigmax.TopK(3), sigmax.ReturnProbabilities())
	if failed := new(sigmax.Error); errors.As(err, &failed) {
		log.Fatal(failed.Code, failed.Reason, failed.Fields)
	}
	for i, row := range result.Rows {
		fmt.Println(row.Label, row.Classes, result.Probabilities[i])
	}
}

func ExampleNamed() {
	client, err := sigmax.Connect("localhost:8001")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	inputs := sigmax.Named{
		"text":  sigmax.Row[string]{"two fish"},
		"image": sigmax.NewTensor(make([]uint8, 28*28), 1, 28, 28),
	}
	result, err := client.Classify(context.Background(), "caption", inputs)
	if err != nil {
		log.Fatal(err)
	}
	for _, class := range result.Rows[0].Decision {
		fmt.Println(class.Label)
	}
}

func ExampleWithTokenSource() {
	client, err := sigmax.Connect("sigmax.example:8001",
		sigmax.WithTLS(sigmax.TLS{CA: "ca.pem", Certificate: "me.pem", Key: "me.key"}),
		sigmax.WithTokenSource(func(context.Context) (string, error) {
			token, err := os.ReadFile("token")
			return string(bytes.TrimSpace(token)), err
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}
