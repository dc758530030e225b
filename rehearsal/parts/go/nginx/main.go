// Command nginx is the one program inside the rehearsal's sample images. It does as little as the
// name it is called by needs: an HTTP server by default; sh, sleep, true, echo and pause by these
// names. It is static and has no dependencies, so an image needs no other file.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(filepath.Base(os.Args[0]), os.Args[1:]))
}

func run(name string, arguments []string) int {
	switch name {
	case "sh":
		return shell(arguments)
	case "busybox":
		if len(arguments) == 0 {
			return 0
		}
		return run(arguments[0], arguments[1:])
	case "true":
		return 0
	case "false":
		return 1
	case "echo":
		fmt.Println(strings.Join(arguments, " "))
		return 0
	case "sleep":
		return sleep(arguments)
	case "pause":
		<-ended()
		return 0
	default:
		return serve(name)
	}
}

// shell runs `sh -c COMMAND`, where COMMAND is one of this program's names with its arguments, or
// several joined by && or ;. It knows no quoting, variables or redirection.
func shell(arguments []string) int {
	if len(arguments) < 2 || arguments[0] != "-c" {
		return 0
	}
	status := 0
	for _, sequence := range strings.Split(arguments[1], ";") {
		for _, command := range strings.Split(sequence, "&&") {
			words := strings.Fields(command)
			if len(words) == 0 {
				continue
			}
			if words[0] == "exit" {
				if len(words) < 2 {
					return status
				}
				code, err := strconv.Atoi(words[1])
				if err != nil {
					return 2
				}
				return code
			}
			switch words[0] {
			case "true", "false", "echo", "sleep":
				status = run(words[0], words[1:])
			default:
				fmt.Fprintf(os.Stderr, "sh: %s: not found\n", words[0])
				status = 127
			}
			if status != 0 {
				break
			}
		}
	}
	return status
}

func sleep(arguments []string) int {
	if len(arguments) != 1 {
		return 2
	}
	if arguments[0] == "infinity" {
		<-ended()
		return 0
	}
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(arguments[0], "s"), 64)
	if err != nil || seconds < 0 {
		fmt.Fprintf(os.Stderr, "sleep: invalid number %q\n", arguments[0])
		return 1
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return 0
	case <-ended():
		return 143
	}
}

func serve(name string) int {
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	go func() {
		<-ended()
		os.Exit(0)
	}()
	fmt.Printf("%s: serving on port %s\n", name, port)
	handler := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "%s of the rehearsal\n", name)
	})
	server := &http.Server{Addr: ":" + port, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	return 1
}

func ended() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	return signals
}
