module Main (main) where

import Control.Concurrent (forkIO, newEmptyMVar, putMVar, takeMVar)
import Control.Exception (try)
import Control.Monad (forM, forM_, unless)
import Data.Int (Int64)
import Data.List (isInfixOf)
import System.Exit (die)
import TorchModel

expect :: (Eq a, Show a) => String -> a -> a -> IO ()
expect what right found = unless (right == found) $ die (what ++ ": " ++ show found ++ ", not " ++ show right)

fails :: String -> IO a -> IO ()
fails text action = do
  outcome <- try action
  case outcome of
    Left (TorchError message) | text `isInfixOf` message -> pure ()
    Left other -> die ("expected an error with " ++ show text ++ ", not " ++ show other)
    Right _ -> die ("no error with " ++ show text)

main :: IO ()
main = do
  model <- load "model.pt" "cpu"
  let ones = tensor [[1, 1, 1, 1 :: Float]]
      run = (: []) <$> ones >>= forward model >>= elements :: IO [Float]
  output <- tensor [[1, 1, 1, 1], [0, 0, 0, 0 :: Float]] >>= forward model . (: [])
  shape output >>= expect "its shape" [2, 2]
  elements output >>= expect "its numbers" [2.5, -0.75 :: Float] . take 2

  fails "shapes cannot be multiplied" (tensor [[1, 1, 1 :: Float]] >>= forward model . (: []))
  fails "different lengths" (tensor [[1, 2], [3 :: Float]])
  fails "does not have 3 elements" (tensorOf [2, 2] [1, 2, 3 :: Float])
  fails "missing.pt" (load "missing.pt" "cpu")

  cube <- tensor [[[1, 2]], [[3, 4 :: Int64]]]
  shape cube >>= expect "a cube" [2, 1, 2]
  elements cube >>= expect "converted" [1, 2, 3, 4 :: Double]
  tensor ([] :: [[Float]]) >>= shape >>= expect "no rows" [0, 0]
  tensor (5 :: Double) >>= shape >>= expect "a number" []

  text <- value (String "a\0b ü") >>= content
  expect "a string" (Just "a\0b ü") (case text of String found -> Just found; _ -> Nothing)
  seven <- value (Int 7)
  key <- value (String "seven")
  dict <- value (Dict [(key, seven)]) >>= content
  case dict of
    Dict [(_, item)] -> content item >>= \found -> expect "an int" (Just 7) (case found of Int number -> Just number; _ -> Nothing)
    _ -> die "a dict is none"

  finished <- forM [1 .. 4 :: Int] $ \_ -> do
    done <- newEmptyMVar
    _ <- forkIO (run >>= putMVar done)
    pure done
  forM_ finished $ \done -> takeMVar done >>= expect "a thread's" [2.5, -0.75]
  putStrLn "ok"
